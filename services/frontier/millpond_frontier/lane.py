"""The requests of ai.frontier for one model, of which each takes its turn."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from millpond.v1 import result_pb2
from millpond_core.batch_name import BatchName
from millpond_core.cache_client import WAITED, Cache, worth_recalling
from millpond_core.clock import Clock
from millpond_core.control import Word
from millpond_core.errors import Refused
from millpond_core.processor import Unread
from millpond_core.result import Failure
from millpond_core.same_request import shared_answer, shared_key
from millpond_core.stage import Job, Outcome, Retry, Settle
from millpond_frontier.attempt import CallFailed, attempt_of, attempts_like, pause_s, retry_after_s
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSection

logger = logging.getLogger(__name__)

Crashed = Callable[[BaseException], None]
"""Hears an exception that no request may raise, and that the process is to end with."""


@dataclass(eq=False)
class Errand:
    """A call to make: for the first of the jobs, whose answer the equal others wait for. call: while it runs.

    order: realtime first, then by deadline, then as they came.
    """

    jobs: list[Job]
    key: bytes | None
    order: tuple[bool, float, int]
    call: asyncio.Task[None] | None = None


class Lane:
    """The requests of one model: realtime first, then by deadline. Equal ones are asked once.

    While the provider is away, one request at a time is tried, later and later; the others wait where they are, or at
    their topic's end.
    """

    def __init__(
        self,
        provider: Provider,
        own: FrontierSection,
        settle: Settle,
        *,
        cache: Cache,
        clock: Clock,
        crashed: Crashed,
    ) -> None:
        self._provider = provider
        self._own = own
        self._settle = settle
        self._cache = cache
        self._clock = clock
        self._crashed = crashed
        self._errands: dict[Job, Errand] = {}
        self._shared: dict[bytes, Errand] = {}
        """Errands that an equal request may join, waiting or running."""
        self._waiting: dict[Errand, None] = {}
        self._running: set[Errand] = set()
        self._numbers = itertools.count()
        self._away = 0
        """Calls in a row that met nobody."""
        self._closed_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._receive(job)
        self._turn()

    def release(self, job: Job) -> bool:
        errand = self._errands.get(job)
        if errand is None or errand.call is not None:
            return False
        self._leave(job)
        return True

    def abandon(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job in self._errands:
                self._leave(job)

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:  # noqa: ARG002
        return ()

    def told(self, batch: BatchName, word: Word) -> None: ...

    async def drain(self) -> None:
        """Finish the calls that run; what waits is the next process's."""
        self._draining = True
        if calls := self._calls():
            await asyncio.wait(calls)

    async def close(self) -> None:
        """Give up the calls that still run."""
        self._draining = True
        if self._timer:
            self._timer.cancel()
        calls = self._calls()
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)

    def _calls(self) -> list[asyncio.Task[None]]:
        return [errand.call for errand in self._running if errand.call]

    def _receive(self, job: Job) -> None:
        key = shared_key(job.routed.request)
        order = (not job.urgent, job.deadline_s, next(self._numbers))
        errand = self._shared.get(key) if key is not None else None
        if errand is None:
            errand = Errand([], key, order)
            self._waiting[errand] = None
            if key is not None:
                self._shared[key] = errand
        errand.jobs.append(job)
        errand.order = min(errand.order, order)
        self._errands[job] = errand

    def _leave(self, job: Job) -> None:
        """Nobody waits for this request here any more; its errand goes on while it has others."""
        errand = self._errands.pop(job)
        errand.jobs.remove(job)
        if errand.jobs:
            return
        self._forget(errand)
        self._waiting.pop(errand, None)
        if errand.call:
            errand.call.cancel()

    def _forget(self, errand: Errand) -> None:
        """Let nobody join it any more."""
        if errand.key is not None and self._shared.get(errand.key) is errand:
            del self._shared[errand.key]

    def _turn(self) -> None:
        """Call for whoever is next, or come back when the provider may be there again."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        closed_s = self._closed_until - self._clock.now()
        if closed_s > 0 and self._waiting and not self._draining:
            self._timer = asyncio.get_running_loop().call_later(closed_s, self._turn)
            return
        places = 1 if self._away else self._own.concurrency
        while self._waiting and len(self._running) < places and not self._draining:
            # A few thousand at most, and a call takes a hundred times longer than to look through them.
            errand = min(self._waiting, key=lambda each: each.order)
            del self._waiting[errand]
            errand.call = asyncio.create_task(self._call(errand))
            self._running.add(errand)
            errand.call.add_done_callback(partial(self._ended, errand))

    def _ended(self, errand: Errand, call: asyncio.Task[None]) -> None:
        self._running.discard(errand)
        if not call.cancelled() and (failure := call.exception()):
            self._crashed(failure)
        self._turn()

    async def _call(self, errand: Errand) -> None:
        asked = errand.jobs[0]
        if worth_recalling(asked, self._clock.now()) and (recalled := (await self._cache.recall([asked])).get(asked)):
            for job in self._release(errand):
                job.routed.decision.reasons.add(code=WAITED, value=1.0, detail=recalled.served_by.cache.source_id)
                self._settle(job, recalled)
            return
        began = time.monotonic()
        try:
            answer = await self._provider.answer(asked.routed, asked.span)
        except Refused as refused:
            for job in self._release(errand):
                self._settle(job, Failure(refused.to_error()))
        except CallFailed as failure:
            self._met(failure)
            attempt = attempt_of(self._provider.model.name, failure, time.monotonic() - began)
            for job in self._release(errand):
                self._settle(job, self._after(failure, job, attempt))
                # The call was one, whoever waits for its answer.
                attempt = _unpaid(attempt)
        else:
            self._met(None)
            first, *others = self._release(errand)
            self._settle(first, answer)
            for job in others:
                self._settle(job, shared_answer(answer, first, job))

    def _release(self, errand: Errand) -> Sequence[Job]:
        """Its requests, which are the caller's from here on."""
        self._forget(errand)
        jobs, errand.jobs = errand.jobs, []
        for job in jobs:
            del self._errands[job]
        return jobs

    def _after(self, failure: CallFailed, job: Job, attempt: result_pb2.Attempt) -> Outcome:
        model = self._provider.model.name
        attempts, left_s = attempts_like(failure, job.routed, model) + 1, job.deadline_s - self._clock.now()
        wait_s = retry_after_s(failure, attempts, self._own, left_s, _chance())
        if wait_s is not None:
            return Retry(self._clock.now() + wait_s, attempt)
        job.routed.attempts.append(attempt)
        return Failure(failure.to_error())

    def _met(self, failure: CallFailed | None) -> None:
        """Remember whether the provider is there."""
        if failure is None or not failure.away:
            self._away = 0
            return
        self._away += 1
        pause = pause_s(self._away, self._own, _chance()) + (failure.after_s or 0.0)
        self._closed_until = max(self._closed_until, self._clock.now() + pause)
        logger.warning(
            "%s: %s; called again in %.1f s",
            self._provider.model.name,
            failure,
            self._closed_until - self._clock.now(),
        )


def _unpaid(attempt: result_pb2.Attempt) -> result_pb2.Attempt:
    copy = result_pb2.Attempt()
    copy.CopyFrom(attempt)
    copy.ClearField("usage")
    return copy


def _chance() -> float:
    # It spreads the calls of many requests; it is no secret.
    return random.random()  # noqa: S311
