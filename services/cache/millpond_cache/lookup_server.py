"""The gRPC look-up for the sync tier, with health and reflection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_cache.lookup import Asked, Lookup, answer_of
from millpond_core import telemetry
from millpond_core.embedder import Embedder
from millpond_core.embedding import prompt_text
from millpond_core.errors import EngineError
from millpond_core.settings import WrongSetting
from millpond_core.telemetry import Tracing

SERVICE = services_pb2.DESCRIPTOR.services_by_name["Cache"].full_name

LOOKUP = f"{SERVICE}/Lookup"

GRACE_S = 1.0
"""Seconds that calls have to end at a stop: more than one takes."""

LARGEST_MESSAGE = 8 << 20
"""Bytes of one call: a request of 4 MB is let through by Kafka, and gRPC's default is 4 MB too, headers included."""


class LookupServer(services_pb2_grpc.CacheServicer):
    """Embeds the prompt itself: the sync tier passes no router."""

    def __init__(self, lookup: Lookup, embedder: Embedder, tracing: Tracing) -> None:
        self._lookup = lookup
        self._embedder = embedder
        self._tracing = tracing

    async def Lookup(self, request: services_pb2.LookupRequest, context: Any) -> services_pb2.LookupResponse:
        if not request.request.tenant or not request.model or not request.request.messages:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "request.tenant, request.messages and model are needed"
            )
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
            response.answer.CopyFrom(
                envelope_pb2.Answered(
                    output=answer.output,
                    served_by=answer.served_by,
                    usage=answer.usage,
                    status=result_pb2.STATUS_OK,
                )
            )
        return response

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


@asynccontextmanager
async def serving_lookups(server: LookupServer, host: str, port: int) -> AsyncGenerator[int]:
    """While it is open, look-ups are served. Gives the port, which 0 leaves to the system. Raises WrongSetting."""
    running = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.so_reuseport", 0)])
    services_pb2_grpc.add_CacheServicer_to_server(server, running)
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
