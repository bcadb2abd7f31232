"""Frontier's process: the requests of ai.frontier, and the synchronous tier beside them."""

from __future__ import annotations

import asyncio
import logging

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME
from grpc_reflection.v1alpha import reflection

from millpond.v1 import services_pb2, services_pb2_grpc
from millpond_core.health import PortTaken
from millpond_core.service import Runtime
from millpond_core.stage import Settle, Worker
from millpond_core.stage_service import serve_stage
from millpond_frontier.provider import Provider
from millpond_frontier.publisher import Publisher
from millpond_frontier.settings import FrontierSettings
from millpond_frontier.sync_tier import SyncTier
from millpond_frontier.worker import Frontier

logger = logging.getLogger(__name__)

SERVICE = services_pb2.DESCRIPTOR.services_by_name["Inference"].full_name


async def serve(settings: FrontierSettings, runtime: Runtime) -> None:
    own = settings.frontier
    providers = {
        model.name: Provider(model, settings.provider_base_url, own, runtime.tracing)
        for model in settings.models
        if model.kind == "openai"
    }

    crash: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def make_worker(settle: Settle) -> Worker:
        return Frontier(providers, own, settle, clock=runtime.clock, crash=crash)

    publisher = Publisher(settings)
    channel = grpc.aio.insecure_channel(settings.cache_grpc)
    states = HealthServicer()
    cache = services_pb2_grpc.CacheStub(channel)
    tier = SyncTier(settings, providers, cache, publisher, clock=runtime.clock, tracing=runtime.tracing)
    server = await _listening(settings, tier, states)
    stage = asyncio.create_task(serve_stage("frontier", settings, runtime, make_worker))
    try:
        await asyncio.wait((stage, crash), return_when=asyncio.FIRST_COMPLETED)
        await (crash if crash.done() else stage)
    finally:
        stage.cancel()
        await states.enter_graceful_shutdown()
        # Calls that run are finished, as far as the time goes; new ones are refused.
        await server.stop(settings.drain_s)
        await publisher.close()
        await channel.close()
        await asyncio.gather(*(provider.close() for provider in providers.values()))


async def _listening(settings: FrontierSettings, tier: SyncTier, states: HealthServicer) -> grpc.aio.Server:
    """The gRPC server, serving. Raises PortTaken."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.frontier.max_request_bytes)])
    services_pb2_grpc.add_InferenceServicer_to_server(tier, server)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection((SERVICE, SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"{settings.grpc_host}:{settings.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as failure:
        raise PortTaken(f"{address} is taken: set MILLPOND_GRPC_PORT to a free port") from failure
    await server.start()
    await states.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    logger.info("the sync tier listens", extra={"grpc_port": port})
    return server
