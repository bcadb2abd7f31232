"""The cache's work between admission and the next stage: look up, answer or send on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.decide import Outcome as Found
from millpond_cache.decide import Verdict
from millpond_cache.lookup import Asked, Lookup, answer_of
from millpond_core import telemetry, topics
from millpond_core.batch_name import BatchName
from millpond_core.control import Word
from millpond_core.envelope import BATCH_TOPICS
from millpond_core.errors import Code
from millpond_core.processor import Unread
from millpond_core.result import Failure
from millpond_core.stage import Forward, Job, Outcome, Settle

MISSED = "no answer is cached, and cache.mode is only: ask with use"
AWAY = "the cache does not answer just now, and cache.mode is only: ask again, or with use"


class CacheWorker:
    """Implements the stage's `Worker`. crashed: hears an exception that no look-up may raise."""

    def __init__(self, settle: Settle, lookup: Lookup, crashed: Callable[[BaseException], None]) -> None:
        self._settle = settle
        self._lookup = lookup
        self._crashed = crashed
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, jobs: Sequence[Job]) -> None:
        for urgent in (True, False):
            if some := [job for job in jobs if job.urgent is urgent]:
                task = asyncio.create_task(self._serve(some, patient=not urgent))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    def release(self, job: Job) -> bool:  # noqa: ARG002
        """A look-up is over in a moment: it is waited for."""
        return False

    def abandon(self, jobs: Sequence[Job]) -> None: ...

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:  # noqa: ARG002
        return ()

    def told(self, batch: BatchName, word: Word) -> None: ...

    async def drain(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _serve(self, jobs: Sequence[Job], *, patient: bool) -> None:
        verdicts = await self._lookup.look_up([_asked(job.routed) for job in jobs], patient=patient)
        for job, verdict in zip(jobs, verdicts, strict=True):
            _describe(job, verdict)
            job.routed.decision.reasons.append(verdict.reason)
            self._settle(job, outcome_of(job.routed, verdict))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()):
            self._crashed(failure)


def outcome_of(routed: envelope_pb2.Routed, verdict: Verdict) -> Outcome:
    """What becomes of a request, by its verdict."""
    if answer := answer_of(verdict):
        return answer
    if routed.request.cache.mode == request_pb2.CACHE_MODE_ONLY:
        away = verdict.outcome is Found.UNAVAILABLE
        return Failure(result_pb2.Error(code=Code.CACHE_MISS, message=AWAY if away else MISSED, retryable=away))
    if routed.decision.route == result_pb2.ROUTE_FRONTIER:
        return Forward(topics.FRONTIER, routed)
    return Forward(BATCH_TOPICS[routed.decision.tier], routed)


def _asked(routed: envelope_pb2.Routed) -> Asked:
    embedding = routed.embedding if routed.HasField("embedding") else None
    return Asked(routed.request, routed.decision.model, embedding)


def _describe(job: Job, verdict: Verdict) -> None:
    if job.span.is_recording():
        job.span.set_attribute(telemetry.CACHE_OUTCOME, verdict.outcome)
        job.span.set_attribute(telemetry.CACHE_SIMILARITY, verdict.similarity)
        if verdict.entry is not None:
            job.span.set_attribute(telemetry.CACHE_SOURCE_ID, verdict.entry.source_id)
