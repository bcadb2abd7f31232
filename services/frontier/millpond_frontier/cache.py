"""The cache, asked over gRPC."""

from __future__ import annotations

import logging

import grpc
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_core import telemetry
from millpond_core.result import Answer
from millpond_core.telemetry import Tracing

logger = logging.getLogger(__name__)

LOOKUP = f"{services_pb2.DESCRIPTOR.services_by_name['CacheService'].full_name}/Lookup"

UNAVAILABLE = "cache.unavailable"
"""The reason in a decision which says that the cache did not answer."""

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
        answer = found.answer
        if answer.status != result_pb2.STATUS_OK or mode == request_pb2.CACHE_MODE_REFRESH:
            return None
        return Answer(answer.output, answer.served_by, answer.usage)

    async def close(self) -> None:
        await self._channel.close()
