"""The synchronous tier: `Inference` over gRPC. An answer now, and the same one on ai.results.

A call that ends with a Result, whatever its status, was accepted, and its outcome is handed to ai.routed as answered,
to be claimed and written like every other. A call that ends with a gRPC error was not accepted, or its callers went
away: nothing is on ai.results, and the same id may be asked again.

    INVALID_ARGUMENT    the request cannot be served as it is; the details begin with the code of docs/contract.md
    ALREADY_EXISTS      another request with its id is being answered
    RESOURCE_EXHAUSTED  too many requests at the same time, or more bytes than are taken
    UNAVAILABLE         this replica is about to end
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2
from millpond_core import telemetry, topics
from millpond_core.cache_client import UNAVAILABLE, Cache
from millpond_core.clock import Clock
from millpond_core.envelope import TIER_WORDS, routed_record
from millpond_core.errors import Code, Refused
from millpond_core.publisher import Publisher
from millpond_core.result import EXPIRED, Answer, Failure, result_of
from millpond_core.stage import ROUTE_WORDS, STATUS_WORDS
from millpond_core.telemetry import Tracing
from millpond_frontier.accept import HEARD_S, Accepted, Terms, accept
from millpond_frontier.attempt import CallFailed, attempt_of, attempts_like, retry_after_s
from millpond_frontier.call import Call
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSettings

logger = logging.getLogger(__name__)

SERVICE = services_pb2.DESCRIPTOR.services_by_name["Inference"].full_name

PUBLISHED = "millpond-published"
"""Trailing metadata: "false" where Kafka has not taken the answer yet. It is tried further while the process lives."""

Context = grpc.aio.ServicerContext[bytes, object]


class SyncTier:
    def __init__(
        self,
        settings: FrontierSettings,
        providers: Mapping[str, Provider],
        cache: Cache,
        publisher: Publisher,
        *,
        clock: Clock,
        tracing: Tracing,
        crashed: Callable[[BaseException], None],
    ) -> None:
        """crashed: hears an exception that no request may raise."""
        self._settings = settings
        self._own = settings.frontier
        self._terms = Terms(settings, settings.frontier, {name: each.model for name, each in providers.items()})
        self._providers = providers
        self._cache = cache
        self._publisher = publisher
        self._clock = clock
        self._tracing = tracing
        self._crashed = crashed
        self._draining = False
        self._calls: dict[tuple[str, str], Call] = {}
        """By tenant and id."""

    def handler(self) -> grpc.GenericRpcHandler:
        """Requests come as they were sent: what is none is refused like on ai.requests, not by gRPC in its own way."""
        methods = {
            "Infer": grpc.unary_unary_rpc_method_handler(
                self.Infer, response_serializer=result_pb2.Result.SerializeToString
            ),
            "InferStream": grpc.unary_stream_rpc_method_handler(
                self.InferStream, response_serializer=services_pb2.Chunk.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def Infer(self, request: bytes, context: Context) -> result_pb2.Result:
        async with self._joined(request, context, "Infer") as call:
            result = await call.result()
            _tell(context, call)
            return result

    async def InferStream(self, request: bytes, context: Context) -> None:
        """The text as it comes, then the whole result. An answer from the cache is one piece."""
        async with self._joined(request, context, "InferStream") as call:
            async for text in call.pieces():
                await context.write(services_pb2.Chunk(text=text))
            result = await call.result()
            _tell(context, call)
            await context.write(services_pb2.Chunk(result=result))

    async def drain(self) -> None:
        """Take no more calls, and wait until those that run are answered and published."""
        self._draining = True
        for call in list(self._calls.values()):
            await call.ended()

    @asynccontextmanager
    async def _joined(self, request: bytes, context: Context, method: str) -> AsyncGenerator[Call]:
        """The call that answers the request: a new one, or one that does so already."""
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this replica is about to end: ask again")
        remaining_s: float | None = context.time_remaining()
        try:
            accepted = accept(request, self._terms, str(uuid.uuid4()), remaining_s, self._clock.now())
        except Refused as refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{refused.code}: {refused}")
        asked = accepted.routed.request
        call = self._calls.get((asked.tenant, asked.id))
        if call is None or call.given_up:
            if len(self._calls) >= self._own.sync_calls:
                busy = f"{self._own.sync_calls} requests are being answered: ask again later, or send it to ai.requests"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, busy)
            call = self._begin(accepted, f"{SERVICE}/{method}", context)
        if call.accepted.body != accepted.body:
            conflict = f"{Code.ID_CONFLICT}: another request with this id is being answered: use another id"
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, conflict)
        call.callers += 1
        try:
            yield call
        finally:
            call.leave()

    def _begin(self, accepted: Accepted, method: str, context: Context) -> Call:
        request = accepted.routed.request
        span = self._tracing.serve(method, tuple(context.invocation_metadata() or ()))
        if span.is_recording():
            span.set_attribute(telemetry.REQUEST_ID, request.id)
            span.set_attribute(telemetry.TENANT, request.tenant)
            span.set_attribute(telemetry.TIER, TIER_WORDS[request.tier])
        call = Call(accepted, span)
        key = (request.tenant, request.id)

        def ended(answering: asyncio.Task[result_pb2.Result]) -> None:
            # One that was given up may end after the next call under its id, and that one's end.
            if self._calls.get(key) is call:
                del self._calls[key]
            span.end()
            if not answering.cancelled() and (failure := answering.exception()):
                self._crashed(failure)

        self._calls[key] = call
        call.start(self._answer(call), ended)
        return call

    async def _answer(self, call: Call) -> result_pb2.Result:
        routed, began = call.accepted.routed, time.monotonic()
        outcome = await self._outcome(call)
        call.settled = True
        routed.timings_ms["frontier"] = round((time.monotonic() - began) * 1000, 1)
        if isinstance(outcome, Answer):
            routed.decision.route = outcome.served_by.route
        routed.answered.CopyFrom(_answered(outcome))
        result = result_of(routed, outcome, self._settings.models, self._clock.now(), telemetry.trace_id(call.span))
        if call.span.is_recording():
            call.span.set_attribute(telemetry.STATUS, STATUS_WORDS[result.status])
            call.span.set_attribute(telemetry.ROUTE, ROUTE_WORDS[result.served_by.route])
            call.span.set_attribute(telemetry.REASONS, [reason.code for reason in routed.decision.reasons])
            if result.error.code:
                call.span.set_attribute(telemetry.ERROR_TYPE, result.error.code)
        await self._publish(call)
        return result

    async def _outcome(self, call: Call) -> Answer | Failure:
        routed = call.accepted.routed
        try:
            async with asyncio.timeout(max(self._left_s(call), 0)):
                if cached := await self._cache.look_up(routed, call.span):
                    call.say(cached.output.text)
                    return cached
                if routed.request.cache.mode == request_pb2.CACHE_MODE_ONLY:
                    return Failure(_missed(routed))
                return await self._ask(call)
        except TimeoutError:
            return Failure(EXPIRED)
        except (CallFailed, Refused) as failure:
            return Failure(failure.to_error())

    async def _ask(self, call: Call) -> Answer:
        """The provider's answer, after more than one try where time allows. Raises CallFailed or Refused.

        Once text was given out, another try would tell another answer.
        """
        routed = call.accepted.routed
        provider = self._providers[routed.decision.model]
        while True:
            began = time.monotonic()
            try:
                return await provider.answer(routed, call.span, call.say)
            except CallFailed as failure:
                routed.attempts.append(attempt_of(provider.model.name, failure, time.monotonic() - began))
                attempts = attempts_like(failure, routed, provider.model.name)
                # It spreads the calls of many requests; it is no secret.
                chance = random.random()  # noqa: S311
                wait_s = retry_after_s(failure, attempts, self._own, self._left_s(call), chance)
                if wait_s is None or call.begun:
                    raise
                asked = {"request_id": routed.request.id, "tenant": routed.request.tenant}
                about = {**asked, "model": provider.model.name, "code": failure.code, "after_s": round(wait_s, 1)}
                logger.info("to be tried again", extra={"trace_id": telemetry.trace_id(call.span), **about})
            await asyncio.sleep(wait_s)

    async def _publish(self, call: Call) -> None:
        span = self._tracing.send(topics.ROUTED, call.span)
        record = routed_record(topics.ROUTED, call.accepted.routed, span, call.accepted.body)
        wait_s = min(self._own.publish_timeout_s, max(self._left_s(call), HEARD_S / 2))
        call.published = await self._publisher.publish(record, wait_s)
        span.end()

    def _left_s(self, call: Call) -> float:
        return call.accepted.deadline_s - self._clock.now()


def _answered(outcome: Answer | Failure) -> envelope_pb2.Answered:
    if isinstance(outcome, Failure):
        return envelope_pb2.Answered(status=outcome.status, error=outcome.error)
    return envelope_pb2.Answered(
        output=outcome.output, served_by=outcome.served_by, usage=outcome.usage, status=result_pb2.STATUS_OK
    )


def _missed(routed: envelope_pb2.Routed) -> result_pb2.Error:
    away = any(reason.code == UNAVAILABLE for reason in routed.decision.reasons)
    what = "the cache did not answer" if away else "the cache has no answer"
    return result_pb2.Error(code=Code.CACHE_MISS, message=f"{what}, and cache.mode is only", retryable=away)


def _tell(context: Context, call: Call) -> None:
    if not call.published:
        context.set_trailing_metadata(((PUBLISHED, "false"),))
