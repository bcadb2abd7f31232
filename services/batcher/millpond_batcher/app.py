"""The batcher's process: takes what waits for a model in Triton, sends it in batches, and publishes each answer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from millpond_batcher.engine import Engine
from millpond_batcher.lane import Lane
from millpond_batcher.settings import BatcherSettings
from millpond_core.errors import Code, Refused
from millpond_core.result import Failure
from millpond_core.service import Runtime
from millpond_core.stage import Job, Settle, Worker
from millpond_core.stage_service import serve_stage


class Batcher:
    """Implements the stage's `Worker`: a lane for each model in Triton."""

    def __init__(
        self, settings: BatcherSettings, runtime: Runtime, settle: Settle, crash: asyncio.Future[None]
    ) -> None:
        """crash: gets the exception that no row may raise, and that the process is to end with."""
        self._settle = settle
        self._crash = crash
        self._lanes: dict[str, Lane] = {}
        for model in settings.models:
            if model.kind == "triton":
                # From the first contact on, an outage is no reason to hold back a roll-out or to end this replica.
                named = f"triton, model {model.triton_model}"
                runtime.ready(named, False, f"does not answer yet at {settings.triton}")
                self._lanes[model.name] = Lane(
                    model,
                    Engine(settings.triton, model.triton_model),
                    settings=settings.batcher,
                    settle=settle,
                    clock=runtime.clock,
                    tracing=runtime.tracing,
                    opened=partial(runtime.ready, named, True),
                    crashed=self._crashed,
                )

    def start(self, jobs: Sequence[Job]) -> None:
        by_model: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_model[job.routed.decision.model].append(job)
        for model, those in by_model.items():
            if lane := self._lanes.get(model):
                lane.start(those)
            else:
                known = ", ".join(sorted(self._lanes))
                refused = Refused(Code.UNKNOWN_MODEL, f"model: {model[:64]!r} is not in Triton; these are: {known}")
                for job in those:
                    self._settle(job, Failure(refused.to_error()))

    def release(self, job: Job) -> bool:
        lane = self._lanes.get(job.routed.decision.model)
        return lane is not None and lane.release(job)

    def abandon(self, jobs: Sequence[Job]) -> None:
        for lane in self._lanes.values():
            lane.abandon(jobs)

    async def drain(self) -> None:
        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def _crashed(self, failure: BaseException) -> None:
        if not self._crash.done():
            self._crash.set_exception(failure)


async def serve(settings: BatcherSettings, runtime: Runtime) -> None:
    crash: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    batchers: list[Batcher] = []

    def make_worker(settle: Settle) -> Worker:
        batchers.append(Batcher(settings, runtime, settle, crash))
        return batchers[-1]

    serving = asyncio.create_task(serve_stage("batcher", settings, runtime, make_worker))
    try:
        await asyncio.wait((serving, crash), return_when=asyncio.FIRST_COMPLETED)
        await (crash if crash.done() else serving)
    finally:
        serving.cancel()
        await asyncio.wait((serving,))
        for batcher in batchers:
            await batcher.close()
