"""The batcher's process: takes what waits for a model in Triton, sends it in batches, and publishes each answer."""

from __future__ import annotations

from functools import partial

from millpond_batcher.engine import Engine
from millpond_batcher.lane import Lane
from millpond_batcher.limit import limit_of
from millpond_batcher.replica import Replica
from millpond_batcher.revival import Revival
from millpond_batcher.settings import BatcherSettings, policy_of
from millpond_core.cache_client import Cache
from millpond_core.lanes import Lanes
from millpond_core.service import Runtime
from millpond_core.settings import ModelSettings
from millpond_core.stage import Settle, Worker
from millpond_core.stage_service import serve_stage


def lanes_of(settings: BatcherSettings, runtime: Runtime, cache: Cache, settle: Settle) -> Lanes:
    """A lane for each model in Triton."""
    lanes: dict[str, Lane] = {}
    for model in settings.models:
        if model.kind == "triton":
            # From the first contact on, an outage is no reason to hold back a roll-out or to end this replica.
            named = f"triton, model {model.triton_model}"
            addresses = model.triton or settings.triton
            runtime.ready(named, False, f"does not answer yet at {addresses}")
            lanes[model.name] = Lane(
                model,
                [
                    _replica(address.strip(), model, settings, urgent=urgent)
                    for address in addresses.split(",")
                    for urgent in ([False, True] if model.urgent_triton_model else [False])
                ],
                policy=policy_of(settings, settings.batcher, model),
                settings=settings.batcher,
                settle=settle,
                cache=cache,
                clock=runtime.clock,
                tracing=runtime.tracing,
                opened=partial(_opened, runtime, named),
                crashed=runtime.crashed,
                large=settings.model_of_role("frontier").name,
            )
    return Lanes(lanes, settle, "is not in Triton")


def _opened(runtime: Runtime, named: str, replica: Replica) -> None:
    if not replica.urgent:
        runtime.ready(named, True)


def _replica(address: str, model: ModelSettings, settings: BatcherSettings, *, urgent: bool) -> Replica:
    own = settings.batcher
    triton_model = model.urgent_triton_model if urgent and model.urgent_triton_model else model.triton_model
    engine = Engine(address, triton_model)
    limit = limit_of(policy_of(settings, own, model), model.max_rows, own.queue_target_s)
    name = f"{triton_model} at {address}"
    revival = Revival(engine, f"model {model.name}, {name}", reload=own.reload_models)
    return Replica(engine, revival, limit, name, urgent)


async def serve(settings: BatcherSettings, runtime: Runtime) -> None:
    workers: list[Lanes] = []
    cache = Cache(settings.cache_grpc, settings.batcher.cache_timeout_s, runtime.tracing)

    def make_worker(settle: Settle) -> Worker:
        workers.append(lanes_of(settings, runtime, cache, settle))
        return workers[-1]

    try:
        await serve_stage("batcher", settings, runtime, make_worker)
    finally:
        for worker in workers:
            await worker.close()
        await cache.close()
