"""The cache, asked over gRPC: by the sync tier first of all, and by whoever is about to ask a model once more."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import grpc
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_core import telemetry
from millpond_core.cache_key import request_key
from millpond_core.result import Answer
from millpond_core.same_request import may_share
from millpond_core.stage import Job
from millpond_core.telemetry import Tracing

logger = logging.getLogger(__name__)

LOOKUP = f"{services_pb2.DESCRIPTOR.services_by_name['CacheService'].full_name}/Lookup"

UNAVAILABLE = "cache.unavailable"
"""The reason in a decision which says that the cache did not answer."""

WAITED = "cache.exact.waited"
"""The reason in a decision which says that an equal request was answered while this one waited."""

WAITED_S = 1.0
"""Seconds after its look-up before which a request is not asked for again: hardly an equal one was answered in them."""

PAUSE_S = 1.0
"""Seconds for which a cache that did not answer is not asked to recall anything: what waits for a model has no need."""

RECONNECT_MS = 1000
"""By default the tries to reach a cache that was away come to lie two minutes apart."""


class Cache:
    def __init__(self, address: str, timeout_s: float, tracing: Tracing) -> None:
        options = [("grpc.max_reconnect_backoff_ms", RECONNECT_MS), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._stub = services_pb2_grpc.CacheServiceStub(self._channel)
        self._address = address
        self._timeout_s = timeout_s
        self._tracing = tracing
        self._silent_until = 0.0
        """Of the monotonic clock."""

    async def look_up(self, routed: envelope_pb2.Routed, parent: Span) -> Answer | None:
        """None on a miss, where the request wants no answer from the cache, and where the cache is away.

        What it finds out goes into the envelope: reasons, and the embedding, which the answer is learned with.
        """
        mode = routed.request.cache.mode
        if mode == request_pb2.CACHE_MODE_BYPASS:
            return None
        span = self._tracing.call(LOOKUP, parent)
        try:
            found = await self._stub.Lookup(
                services_pb2.LookupRequest(request=routed.request, model=routed.decision.model),
                timeout=self._timeout_s,
                metadata=telemetry.inject_metadata((), span),
            )
        except grpc.aio.AioRpcError as failure:
            span.set_attribute(telemetry.ERROR_TYPE, failure.code().name)
            logger.warning("the cache at %s: %s", self._address, failure.code().name)
            routed.decision.reasons.add(code=UNAVAILABLE)
            return None
        finally:
            span.end()
        routed.decision.reasons.extend(found.reasons)
        if found.HasField("embedding"):
            routed.embedding.CopyFrom(found.embedding)
        if found.answer.status != result_pb2.STATUS_OK or mode == request_pb2.CACHE_MODE_REFRESH:
            return None
        return _answer(found.answer)

    async def recall(self, jobs: Sequence[Job]) -> dict[Job, Answer]:
        """The answers that equal requests have had by now. None of a cache that does not answer in time."""
        if not jobs or time.monotonic() < self._silent_until:
            return {}
        keys = {job: request_key(job.routed.request, job.routed.decision.model) for job in jobs}
        try:
            found = await self._stub.Recall(
                services_pb2.RecallRequest(keys=sorted(set(keys.values()))), timeout=self._timeout_s
            )
        except grpc.aio.AioRpcError as failure:
            self._silent_until = time.monotonic() + PAUSE_S
            logger.debug("the cache at %s recalls nothing: %s", self._address, failure.code().name)
            return {}
        return {job: _answer(found.answers[key]) for job, key in keys.items() if key in found.answers}

    async def close(self) -> None:
        await self._channel.close()


def worth_recalling(job: Job, now: float) -> bool:
    """Whether another's answer may serve it, and it was looked up a while ago. now: seconds since 1970."""
    return may_share(job.routed.request) and now - job.taken.record.timestamp_ms / 1000 >= WAITED_S


def _answer(answered: envelope_pb2.Answered) -> Answer:
    return Answer(answered.output, answered.served_by, answered.usage)
