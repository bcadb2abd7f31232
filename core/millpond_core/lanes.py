"""A worker whose requests are told apart by their model: a lane for each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from millpond_core.batch_name import BatchName
from millpond_core.control import Word
from millpond_core.errors import Code, Refused
from millpond_core.processor import Unread
from millpond_core.result import Failure
from millpond_core.stage import Job, Settle, Worker


class Lane(Worker, Protocol):
    """The requests of one model."""

    async def close(self) -> None:
        """Give up whatever still runs."""
        ...


class Lanes:
    """Implements the stage's `Worker`. A request for a model that has no lane is refused."""

    def __init__(self, lanes: Mapping[str, Lane], settle: Settle, stranger: str) -> None:
        """lanes: by the model's configured name. stranger: what is said of a model without one, "is not in Triton"."""
        self._lanes = lanes
        self._settle = settle
        self._stranger = stranger

    def start(self, jobs: Sequence[Job]) -> None:
        by_model: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_model[job.routed.decision.model].append(job)
        for model, those in by_model.items():
            if lane := self._lanes.get(model):
                lane.start(those)
            else:
                known = ", ".join(sorted(self._lanes))
                refused = Refused(Code.UNKNOWN_MODEL, f"model: {model[:64]!r} {self._stranger}; these are: {known}")
                for job in those:
                    self._settle(job, Failure(refused.to_error()))

    def release(self, job: Job) -> bool:
        lane = self._lanes.get(job.routed.decision.model)
        return lane is not None and lane.release(job)

    def abandon(self, jobs: Sequence[Job]) -> None:
        for lane in self._lanes.values():
            lane.abandon(jobs)

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:
        offsets: list[int] = []
        for lane in self._lanes.values():
            offsets += await lane.ahead(unread, held, room - len(offsets))
        return offsets

    def told(self, batch: BatchName, word: Word) -> None:
        for lane in self._lanes.values():
            lane.told(batch, word)

    async def drain(self) -> None:
        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
