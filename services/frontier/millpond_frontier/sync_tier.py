"""The synchronous tier: `Inference` over gRPC. An answer now, and the same one on ai.results.

A request that cannot be served as it is ends with INVALID_ARGUMENT and was never accepted. One that is accepted ends
with a Result, also where that is an error, and is published: handed to ai.routed as answered, so that it is claimed and
written like every other. A caller that goes away ends the provider's call, and nothing is published.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

import grpc
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_core import telemetry, topics
from millpond_core.clock import Clock
from millpond_core.envelope import routed_record
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.identity import NO_TENANT, body_hash
from millpond_core.result import EXPIRED, Answer, Failure, result_of, settled
from millpond_core.settings import RESERVED_MODELS
from millpond_core.telemetry import Tracing
from millpond_core.validate import check_context, validate
from millpond_frontier.provider import Provider
from millpond_frontier.publisher import NotPublished, Publisher
from millpond_frontier.settings import FrontierSettings

logger = logging.getLogger(__name__)

INFER = "millpond.v1.Inference/Infer"
INFER_STREAM = "millpond.v1.Inference/InferStream"
LOOKUP = "millpond.v1.Cache/Lookup"

PUBLISHED = "millpond-published"
"""Trailing metadata: "false" where Kafka did not take the answer, which then is only the caller's."""

Context = grpc.aio.ServicerContext[request_pb2.Request, object]


@dataclass(frozen=True)
class Accepted:
    routed: envelope_pb2.Routed
    provider: Provider
    body: bytes
    span: Span


class SyncTier(services_pb2_grpc.InferenceServicer):
    def __init__(
        self,
        settings: FrontierSettings,
        providers: Mapping[str, Provider],
        cache: services_pb2_grpc.CacheStub,
        publisher: Publisher,
        *,
        clock: Clock,
        tracing: Tracing,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._cache = cache
        self._publisher = publisher
        self._clock = clock
        self._tracing = tracing
        self._models = {*RESERVED_MODELS, *(model.name for model in settings.models)}

    async def Infer(self, request: request_pb2.Request, context: Context) -> result_pb2.Result:
        accepted = await self._accept(request, context, INFER)
        try:
            return await self._publish(accepted, await self._outcome(accepted, None), context)
        finally:
            accepted.span.end()

    async def InferStream(self, request: request_pb2.Request, context: Context) -> AsyncGenerator[services_pb2.Chunk]:
        """The text as it comes, then the whole result. An answer from the cache is one piece."""
        accepted = await self._accept(request, context, INFER_STREAM)
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        working = asyncio.create_task(self._outcome(accepted, pieces.put_nowait))
        working.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield services_pb2.Chunk(text=piece)
            yield services_pb2.Chunk(result=await self._publish(accepted, await working, context))
        finally:
            working.cancel()
            accepted.span.end()

    async def _accept(self, request: request_pb2.Request, context: Context, method: str) -> Accepted:
        """Ends the call with INVALID_ARGUMENT where the request cannot be served."""
        now = self._clock.now()
        try:
            validate(request, self._settings.limits, self._models, now)
            provider = self._provider_for(request.model)
            check_context(request, provider.model.context_tokens)
        except Refused as refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{refused.code}: {refused}")
        body = body_hash(request)
        request.id = request.id or str(uuid.uuid4())
        request.tenant = request.tenant or NO_TENANT
        request.tier = request_pb2.TIER_REALTIME
        routed = envelope_pb2.Routed(
            request=request,
            decision=result_pb2.Decision(
                reasons=[result_pb2.Reason(code="sync.provider")],
                tier=request_pb2.TIER_REALTIME,
                route=result_pb2.ROUTE_FRONTIER,
                model=provider.model.name,
            ),
            format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
        )
        routed.accepted_at.FromNanoseconds(int(now * 1e9))
        routed.decision.deadline.FromNanoseconds(int(self._deadline(request, context, now) * 1e9))
        span = self._tracing.serve(method, tuple(context.invocation_metadata() or ()))
        if span.is_recording():
            span.set_attribute(telemetry.REQUEST_ID, request.id)
            span.set_attribute(telemetry.TENANT, request.tenant)
        return Accepted(routed, provider, body, span)

    def _provider_for(self, name: str) -> Provider:
        """Raises Refused for a model that is not a provider's."""
        if name in ("", "auto", "frontier"):
            return self._providers[self._settings.model_of_role("frontier").name]
        if provider := self._providers.get(name):
            return provider
        reason = "is served on ai.requests: send it there with tier realtime, or ask for auto here"
        raise Refused(Code.UNKNOWN_MODEL, f"model: {name} {reason}")

    def _deadline(self, request: request_pb2.Request, context: Context, now: float) -> float:
        """Seconds since 1970: the earliest of the call's, the request's and the tier's."""
        deadlines = [now + self._settings.tiers.realtime_s]
        if request.HasField("deadline"):
            deadlines.append(request.deadline.ToNanoseconds() / 1e9)
        remaining = context.time_remaining()
        # Without a deadline gRPC gives None, whatever its type says.
        if remaining is not None:  # pyright: ignore[reportUnnecessaryComparison]
            deadlines.append(now + remaining)
        return min(deadlines)

    async def _outcome(self, accepted: Accepted, piece: Callable[[str], None] | None) -> Answer | Failure:
        routed = accepted.routed
        left_s = routed.decision.deadline.ToNanoseconds() / 1e9 - self._clock.now()
        try:
            async with asyncio.timeout(max(left_s, 0)):
                if cached := await self._look_up(accepted):
                    if piece:
                        piece(cached.output.text)
                    return cached
                if routed.request.cache.mode == request_pb2.CACHE_MODE_ONLY:
                    missed = Refused(Code.CACHE_MISS, "the cache has no answer, and cache.mode is only")
                    return Failure(missed.to_error())
                return await accepted.provider.answer(routed.request, routed.replay, accepted.span, piece)
        except TimeoutError:
            return Failure(EXPIRED)
        except (EngineError, Refused) as failure:
            return Failure(failure.to_error())

    async def _look_up(self, accepted: Accepted) -> Answer | None:
        """None on a miss, and where the cache is away: then the provider answers."""
        routed = accepted.routed
        if routed.request.cache.mode in (request_pb2.CACHE_MODE_BYPASS, request_pb2.CACHE_MODE_REFRESH):
            return None
        span = self._tracing.call(LOOKUP, accepted.span)
        try:
            found = await self._cache.Lookup(
                services_pb2.LookupRequest(request=routed.request, model=routed.decision.model),
                timeout=self._settings.frontier.cache_timeout_s,
                metadata=telemetry.inject_metadata((), span),
            )
        except grpc.aio.AioRpcError as failure:
            logger.warning("the cache at %s: %s", self._settings.cache_grpc, failure.code().name)
            routed.decision.reasons.add(code="cache.unavailable")
            return None
        finally:
            span.end()
        routed.decision.reasons.extend(found.reasons)
        if found.HasField("embedding"):
            routed.embedding.CopyFrom(found.embedding)
        if not found.HasField("answer"):
            return None
        answer = found.answer
        return Answer(answer.output, answer.served_by, answer.usage)

    async def _publish(self, accepted: Accepted, outcome: Answer | Failure, context: Context) -> result_pb2.Result:
        routed = accepted.routed
        if isinstance(outcome, Answer):
            routed.decision.route = outcome.served_by.route
            routed.answered.CopyFrom(
                envelope_pb2.Answered(
                    output=outcome.output,
                    served_by=outcome.served_by,
                    usage=outcome.usage,
                    status=result_pb2.STATUS_OK,
                )
            )
        else:
            routed.answered.CopyFrom(envelope_pb2.Answered(status=outcome.status, error=outcome.error))
        assert settled(routed) is not None
        span = self._tracing.send(topics.ROUTED, accepted.span)
        try:
            await self._publisher.publish(routed_record(topics.ROUTED, routed, span, accepted.body))
        except NotPublished as failure:
            # The answer is paid for, and the caller waits: it goes out, and says that nobody else will see it.
            logger.warning("an answer is not published: %s", failure)
            context.set_trailing_metadata(((PUBLISHED, "false"),))
        finally:
            span.end()
        now = self._clock.now()
        return result_of(routed, outcome, self._settings.models, now, telemetry.trace_id(accepted.span))
