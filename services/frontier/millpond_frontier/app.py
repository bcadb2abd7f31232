"""Frontier's process: the requests of ai.frontier, and the synchronous tier beside them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from millpond_core.cache_client import Cache
from millpond_core.lanes import Lanes
from millpond_core.publisher import Publisher
from millpond_core.service import Runtime
from millpond_core.settings import WrongSetting
from millpond_core.stage import Settle, Worker
from millpond_core.stage_service import serve_stage
from millpond_frontier.lane import Lane
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSettings
from millpond_frontier.sync_tier import SERVICE, SyncTier

logger = logging.getLogger(__name__)

LAST_WORDS_S = 1.0
"""Seconds that answers have to reach their callers, once all are there."""


async def serve(settings: FrontierSettings, runtime: Runtime) -> None:
    own = settings.frontier
    providers = {
        model.name: Provider(model, settings.provider_base_url, own, runtime.tracing)
        for model in settings.models
        if model.kind == "openai"
    }
    cache = Cache(settings.cache_grpc, own.cache_timeout_s, runtime.tracing)
    workers: list[Lanes] = []

    def make_worker(settle: Settle) -> Worker:
        lanes = {
            name: Lane(each, own, settle, cache=cache, clock=runtime.clock, crashed=runtime.crashed)
            for name, each in providers.items()
        }
        workers.append(Lanes(lanes, settle, "is no provider's"))
        return workers[-1]

    publisher = Publisher(settings, runtime.crashed, "an answer of the sync tier")
    tier = SyncTier(
        settings, providers, cache, publisher, clock=runtime.clock, tracing=runtime.tracing, crashed=runtime.crashed
    )
    try:
        async with _serving(settings, tier, runtime):
            await serve_stage("frontier", settings, runtime, make_worker)
    finally:
        for worker in workers:
            await worker.close()
        await publisher.close()
        await cache.close()
        for provider in providers.values():
            await provider.close()


@asynccontextmanager
async def _serving(settings: FrontierSettings, tier: SyncTier, runtime: Runtime) -> AsyncGenerator[None]:
    """While it is open, the sync tier is served; told to stop, it takes no more and finishes what runs.

    Raises WrongSetting.
    """
    options = [
        ("grpc.max_receive_message_length", settings.frontier.max_request_bytes),
        # Else a port that another process has would be shared with it.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((tier.handler(),))
    states = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
    await states.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"{settings.grpc_host}:{settings.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as failure:
        reason = f"{address} is taken, or no address of this machine: set MILLPOND_GRPC_PORT or MILLPOND_GRPC_HOST"
        raise WrongSetting(reason) from failure
    await server.start()
    logger.info("the sync tier listens", extra={"grpc_port": port})

    async def stop() -> None:
        # At once, beside the stage's own drain: both have drain_s from the signal on.
        await runtime.stopping.wait()
        await states.enter_graceful_shutdown()
        # The tier refuses by itself while it drains: a server that is stopping may leave a call that reaches it just
        # then without any word until its grace is over, and cuts off with it what would have been answered.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await tier.drain()
        await server.stop(LAST_WORDS_S)

    stopping = asyncio.create_task(stop())
    try:
        yield
    finally:
        if not runtime.stopping.is_set():
            stopping.cancel()
            await server.stop(0)
        await asyncio.wait((stopping,))
        await tier.drain()
