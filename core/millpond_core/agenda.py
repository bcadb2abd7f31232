"""What is to be done with jobs, by time."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, Protocol, TypeVar

SWEPT_FROM = 1000
"""Entries below which a sweep is not worth it."""


class Wanted(Protocol):
    @property
    def wanted(self) -> bool: ...


Job = TypeVar("Job", bound=Wanted)


class Agenda(Generic[Job]):
    """Keeps jobs until their time, and those that nobody wants any more not for long.

    A job is done within a second, and its deadline may be half a day away: all that passed meanwhile would stay.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._swept_at = SWEPT_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, time_s: float, job: Job) -> None:
        """time_s: seconds since 1970."""
        heapq.heappush(self._heap, (time_s, next(self._order), job))
        if len(self._heap) >= self._swept_at:
            self._heap = [each for each in self._heap if each[2].wanted]
            heapq.heapify(self._heap)
            # Twice what is left: a sweep costs each entry that is added no more than a step or two.
            self._swept_at = max(2 * len(self._heap), SWEPT_FROM)

    def due(self, now: float) -> list[Job]:
        """Those whose time has come and that are still wanted, earliest first. They leave."""
        found: list[Job] = []
        while self._heap and self._heap[0][0] <= now:
            job = heapq.heappop(self._heap)[2]
            if job.wanted:
                found.append(job)
        return found
