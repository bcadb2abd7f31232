"""The requests of ai.frontier: each is one call, its retries wait in Kafka."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

from millpond.v1 import result_pb2
from millpond_core.clock import Clock
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.result import Failure
from millpond_core.stage import Job, Outcome, Retry, Settle
from millpond_frontier.attempt import retry_after_s
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSection


class Frontier:
    """Implements the stage's `Worker`."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        settings: FrontierSection,
        settle: Settle,
        *,
        clock: Clock,
        crash: asyncio.Future[None],
    ) -> None:
        """crash: gets an exception that no request may raise, and that the process is to end with."""
        self._providers = providers
        self._settings = settings
        self._settle = settle
        self._clock = clock
        self._crash = crash
        self._calls: dict[Job, asyncio.Task[None]] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._calls[job] = asyncio.create_task(self._serve(job))

    def release(self, job: Job) -> bool:
        # A call that is made cannot be taken back, and one that waits for its turn will soon be made.
        return job not in self._calls

    def abandon(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if call := self._calls.get(job):
                call.cancel()

    async def drain(self) -> None:
        if self._calls:
            await asyncio.wait(list(self._calls.values()))

    async def _serve(self, job: Job) -> None:
        began = time.monotonic()
        try:
            outcome = await self._outcome(job, began)
            self._settle(job, outcome)
        except Exception as failure:
            if not self._crash.done():
                self._crash.set_exception(failure)
        finally:
            del self._calls[job]

    async def _outcome(self, job: Job, began: float) -> Outcome:
        routed = job.routed
        provider = self._providers.get(routed.decision.model)
        if provider is None:
            known = ", ".join(sorted(self._providers))
            message = f"model: {routed.decision.model[:64]!r} is no provider's model; these are: {known}"
            return Failure(Refused(Code.UNKNOWN_MODEL, message).to_error())
        try:
            return await provider.answer(routed.request, routed.replay, job.span)
        except Refused as refused:
            return Failure(refused.to_error())
        except EngineError as error:
            attempt = result_pb2.Attempt(
                route=result_pb2.ROUTE_FRONTIER,
                model=provider.model.name,
                error=error.to_error(),
                duration_ms=round((time.monotonic() - began) * 1000, 1),
            )
            # Chance spreads the calls of many requests; it is no secret.
            chance = random.random()  # noqa: S311
            wait = retry_after_s(error, len(routed.attempts) + 1, self._settings, chance)
            if wait is None:
                routed.attempts.append(attempt)
                return Failure(error.to_error())
            return Retry(self._clock.now() + wait, attempt)
