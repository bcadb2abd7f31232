"""The requests of ai.frontier for one model, of which each takes its turn."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from millpond_core.batch_name import BatchName
from millpond_core.clock import Clock
from millpond_core.control import Word
from millpond_core.errors import Refused
from millpond_core.processor import Unread
from millpond_core.result import Failure
from millpond_core.stage import Job, Outcome, Retry, Settle
from millpond_frontier.attempt import CallFailed, attempt_of, attempts_of, pause_s, retry_after_s
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSection

logger = logging.getLogger(__name__)

Crashed = Callable[[BaseException], None]
"""Hears an exception that no request may raise, and that the process is to end with."""


class Lane:
    """The requests of one model: realtime first, then by deadline.

    While the provider is away, one request at a time is tried, later and later; the others wait where they are, or at
    their topic's end.
    """

    def __init__(
        self, provider: Provider, own: FrontierSection, settle: Settle, *, clock: Clock, crashed: Crashed
    ) -> None:
        self._provider = provider
        self._own = own
        self._settle = settle
        self._clock = clock
        self._crashed = crashed
        self._waiting: dict[Job, tuple[bool, float, int]] = {}
        """With their order."""
        self._numbers = itertools.count()
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._away = 0
        """Calls in a row that met nobody."""
        self._closed_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting[job] = (not job.urgent, job.deadline_s, next(self._numbers))
        self._turn()

    def release(self, job: Job) -> bool:
        return self._waiting.pop(job, None) is not None

    def abandon(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting.pop(job, None)
            if call := self._running.get(job):
                call.cancel()

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:  # noqa: ARG002
        return ()

    def told(self, batch: BatchName, word: Word) -> None: ...

    async def drain(self) -> None:
        """Finish the calls that run; what waits is the next process's."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running.values())

    async def close(self) -> None:
        """Give up the calls that still run."""
        self._draining = True
        if self._timer:
            self._timer.cancel()
        for call in self._running.values():
            call.cancel()
        if self._running:
            await asyncio.wait(self._running.values())

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
            job = min(self._waiting, key=self._waiting.__getitem__)
            del self._waiting[job]
            call = asyncio.create_task(self._call(job))
            self._running[job] = call
            call.add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job, call: asyncio.Task[None]) -> None:
        del self._running[job]
        if not call.cancelled() and (failure := call.exception()):
            self._crashed(failure)
        self._turn()

    async def _call(self, job: Job) -> None:
        began = time.monotonic()
        outcome: Outcome
        try:
            outcome = await self._provider.answer(job.routed, job.span)
            self._met(None)
        except Refused as refused:
            outcome = Failure(refused.to_error())
        except CallFailed as failure:
            self._met(failure)
            outcome = self._after(failure, job, time.monotonic() - began)
        self._settle(job, outcome)

    def _after(self, failure: CallFailed, job: Job, seconds: float) -> Outcome:
        model = self._provider.model.name
        attempt = attempt_of(model, failure, seconds)
        attempts, left_s = attempts_of(job.routed, model) + 1, job.deadline_s - self._clock.now()
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


def _chance() -> float:
    # It spreads the calls of many requests; it is no secret.
    return random.random()  # noqa: S311
