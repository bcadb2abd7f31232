"""The gRPC interface: look-ups for the sync tier, and what people and their programs say to the cache."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from millpond.v1 import (
    control_pb2,
    envelope_pb2,
    feedback_pb2,
    request_pb2,
    result_pb2,
    services_pb2,
    services_pb2_grpc,
)
from millpond_cache.judge import Say
from millpond_cache.ledger import Ledger
from millpond_cache.lesson import Keeping, lesson_of
from millpond_cache.lookup import Asked, Lookup, answer_of
from millpond_cache.orders import Orders, audit
from millpond_cache.recent import Recent
from millpond_cache.reindex import embed_by
from millpond_cache.store import Store, StoreRefused, StoreUnavailable
from millpond_cache.thresholds import Thresholds
from millpond_core import telemetry
from millpond_core.clock import Clock
from millpond_core.control import check
from millpond_core.embedder import Embedder
from millpond_core.embedding import prompt_text
from millpond_core.errors import EngineError, Refused
from millpond_core.identity import is_id, is_tenant
from millpond_core.result import Answer
from millpond_core.settings import WrongSetting
from millpond_core.telemetry import Tracing
from millpond_core.validate import Limits

logger = logging.getLogger(__name__)

SERVICE = services_pb2.DESCRIPTOR.services_by_name["CacheService"].full_name

LOOKUP = f"{SERVICE}/Lookup"

GRACE_S = 1.0
"""Seconds that calls have to end at a stop: more than one takes."""

LARGEST_MESSAGE = 8 << 20
"""Bytes of one call: a request of 4 MB is let through by Kafka, and gRPC's default is 4 MB too, headers included."""

MOST_RECALLED = 1024
"""Keys of one call: more than a batch has."""


KEY = re.compile(r"[0-9a-f]{64}")


class CacheServer(services_pb2_grpc.CacheServiceServicer):
    """Embeds the prompt itself: the sync tier passes no router."""

    def __init__(  # noqa: PLR0917
        self,
        lookup: Lookup,
        store: Store,
        recent: Recent,
        orders: Orders,
        keeping: Keeping,
        thresholds: Thresholds,
        say: Say,
        ledger: Ledger,
        embedder: Embedder,
        tracing: Tracing,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._lookup = lookup
        self._store = store
        self._recent = recent
        self._orders = orders
        self._keeping = keeping
        self._thresholds = thresholds
        self._say = say
        self._ledger = ledger
        self._embedder = embedder
        self._tracing = tracing
        self._clock = clock
        self._limits = limits
        self._reindexing = asyncio.Lock()

    async def Lookup(self, request: services_pb2.LookupRequest, context: Any) -> services_pb2.LookupResponse:
        good = is_tenant(request.request.tenant) and bool(request.model and request.request.messages)
        await _need(context, good, "request.tenant, request.messages and model are needed")
        span = self._tracing.serve(LOOKUP, context.invocation_metadata())
        try:
            embedding = await self._embed(request.request)
            (verdict,) = await self._lookup.look_up([Asked(request.request, request.model, embedding)])
            if span.is_recording():
                span.set_attribute(telemetry.CACHE_OUTCOME, verdict.outcome)
                span.set_attribute(telemetry.CACHE_SIMILARITY, verdict.similarity)
                if verdict.entry is not None:
                    span.set_attribute(telemetry.CACHE_SOURCE_ID, verdict.entry.source_id)
        finally:
            span.end()
        response = services_pb2.LookupResponse(reasons=[verdict.reason], embedding=embedding)
        if answer := answer_of(verdict):
            response.answer.CopyFrom(_answered(answer))
        return response

    async def Put(self, request: services_pb2.PutRequest, context: Any) -> services_pb2.PutResponse:
        asked = request.request
        good = is_tenant(asked.tenant) and is_id(asked.id) and bool(request.model and asked.messages)
        await _need(context, good, "request.tenant, request.id, request.messages and model are needed")
        longest = self._limits.max_ttl_s
        await _need(context, asked.cache.ttl_s <= longest, f"request.cache.ttl_s: must be at most {longest} seconds")
        now = self._clock.now()
        learned = envelope_pb2.Learned(
            request=asked,
            output=request.output,
            served_by=result_pb2.ServedBy(model=request.model),
            usage=request.usage,
            embedding=await self._embed(asked),
        )
        learned.answered_at.FromNanoseconds(int(now * 1e9))
        lesson = lesson_of(learned, self._keeping, now)
        if lesson is None:
            return services_pb2.PutResponse(kept=False)
        try:
            await self._store.learn([lesson])
        except StoreUnavailable as failure:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(failure))
        except StoreRefused as failure:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failure))
        self._recent.remember(lesson.entry, now)
        return services_pb2.PutResponse(kept=True, key=lesson.entry.key)

    async def Recall(self, request: services_pb2.RecallRequest, context: Any) -> services_pb2.RecallResponse:
        await _need(context, len(request.keys) <= MOST_RECALLED, f"keys: over {MOST_RECALLED}")
        await _need(context, all(map(KEY.fullmatch, request.keys)), "keys: each has 64 hexadecimal digits")
        verdicts = await self._lookup.recall(request.keys)
        return services_pb2.RecallResponse(
            answers={key: _answered(answer) for key, each in verdicts.items() if (answer := answer_of(each))}
        )

    async def Invalidate(self, request: control_pb2.Invalidate, context: Any) -> services_pb2.InvalidateResponse:
        entries = 0
        try:
            check(request)
            entries = await self._orders.give(request)
        except Refused as refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))
        except (StoreUnavailable, StoreRefused) as failure:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"hidden by now, and forgotten later: {failure}")
        return services_pb2.InvalidateResponse(entries=entries)

    async def Reindex(self, request: services_pb2.ReindexRequest, context: Any) -> services_pb2.ReindexResponse:
        if self._reindexing.locked():
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "an index is being built already")
        entries = 0
        async with self._reindexing:
            try:
                entries = await self._store.rebuild(embed_by(self._embedder))
            except (StoreUnavailable, StoreRefused, EngineError) as failure:
                await context.abort(grpc.StatusCode.UNAVAILABLE, f"all is as it was: {failure}")
        audit.info("an index was built and serves", extra={"by": request.by[:128] or "unnamed", "entries": entries})
        return services_pb2.ReindexResponse(entries=entries)

    async def Feedback(self, request: services_pb2.FeedbackRequest, context: Any) -> services_pb2.FeedbackResponse:
        good = is_tenant(request.tenant) and is_id(request.source_id)
        await _need(context, good, "tenant and source_id are needed")
        entries = 0
        judgement = feedback_pb2.Feedback(
            tenant=request.tenant,
            good=float(not request.wrong),
            source="user",
            cache=feedback_pb2.CacheGiven(source_id=request.source_id),
        )
        if request.wrong:
            order = control_pb2.Invalidate(tenant=request.tenant, source_id=request.source_id, by="feedback")
            try:
                entries = await self._orders.give(order)
            except (StoreUnavailable, StoreRefused) as failure:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(failure))
            finally:
                await self._say(judgement)
        else:
            await self._say(judgement)
        return services_pb2.FeedbackResponse(entries=entries)

    async def Stats(self, request: services_pb2.StatsRequest, context: Any) -> services_pb2.StatsResponse:  # noqa: ARG002
        account = self._ledger.account(request.tenant)
        low, high = account.interval
        return services_pb2.StatsResponse(
            reasons=dict(account.reasons),
            lookups=account.lookups,
            hits=account.hits,
            judged=account.judged,
            wrong=account.wrong,
            error=account.error(self._thresholds.budget(request.tenant, "")),
            error_low=low,
            error_high=high,
            input_tokens_saved=account.input_tokens_saved,
            output_tokens_saved=account.output_tokens_saved,
            reported=account.reported,
            reported_wrong=account.reported_wrong,
        )

    async def _embed(self, request: request_pb2.Request) -> envelope_pb2.Embedding | None:
        """None where the embedder does not answer, and for what is neither looked up nor learned."""
        if request.cache.mode == request_pb2.CACHE_MODE_BYPASS:
            return None
        try:
            (embedding,) = await self._embedder.embed([prompt_text(request)])
        except EngineError:
            # The embedder's client counts it; the look-up goes on without.
            return None
        return embedding


def _answered(answer: Answer) -> envelope_pb2.Answered:
    return envelope_pb2.Answered(
        output=answer.output, served_by=answer.served_by, usage=answer.usage, status=result_pb2.STATUS_OK
    )


async def _need(context: Any, good: bool, message: str) -> None:
    if not good:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)


@asynccontextmanager
async def serving(server: CacheServer, host: str, port: int) -> AsyncGenerator[int]:
    """While it is open, calls are served. Gives the port, which 0 leaves to the system. Raises WrongSetting."""
    running = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.so_reuseport", 0)])
    services_pb2_grpc.add_CacheServiceServicer_to_server(server, running)
    states = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("", SERVICE):
        await states.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, running)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, running)
    try:
        bound = running.add_insecure_port(f"{host}:{port}")
    except RuntimeError as failure:
        raise WrongSetting(f"port {port} on {host} is taken: set MILLPOND_GRPC_PORT to a free one") from failure
    await running.start()
    try:
        yield bound
    finally:
        await states.enter_graceful_shutdown()
        await running.stop(GRACE_S)
