"""A stage behind the claim: what cache, batcher and frontier have in common between the processor and their work.

    record ─▶ Stage: decode, receive span ─▶ Worker: the service's own work ─▶ settle(job, outcome) ─▶ records

The stage decides expiry and cancelling, once, since it is the one that builds the result: what comes later is dropped
and counted.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.trace import Span

from millpond.v1 import audit_pb2, envelope_pb2, request_pb2, result_pb2
from millpond_core import metrics, telemetry, topics
from millpond_core.agenda import Agenda
from millpond_core.batch_name import BatchName, batch_of
from millpond_core.clock import Clock
from millpond_core.codec import CONTENT_TYPE, PROTOBUF, content_type_of, encode
from millpond_core.control import Control, Word
from millpond_core.dead_letter import dead_letter
from millpond_core.envelope import TIER_WORDS, forwarded_record, not_before_s, parse_routed, retried_record, routed_key
from millpond_core.errors import Code
from millpond_core.processor import CONTENT_BYTES, Finish, Outgoing, Taken, Unread
from millpond_core.result import CANCELLED, EXPIRED, Answer, Failure, learned, result_of, settled
from millpond_core.telemetry import Tracing

if TYPE_CHECKING:
    from millpond_core.settings import ModelSettings

logger = logging.getLogger(__name__)

ROUTE_WORDS = {
    result_pb2.ROUTE_UNSPECIFIED: "none",
    result_pb2.ROUTE_CACHE: "cache",
    result_pb2.ROUTE_SMALL: "small",
    result_pb2.ROUTE_FRONTIER: "frontier",
}

STATUS_WORDS = {
    result_pb2.STATUS_OK: "ok",
    result_pb2.STATUS_ERROR: "error",
    result_pb2.STATUS_EXPIRED: "expired",
    result_pb2.STATUS_CANCELLED: "cancelled",
}


@dataclass(eq=False, slots=True)
class Job:
    """One request in a stage's hands. span: its `process` span here. deadline_s: seconds since 1970."""

    taken: Taken
    routed: envelope_pb2.Routed
    span: Span
    deadline_s: float
    started: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for an outcome."""
        return self.taken.live

    @property
    def urgent(self) -> bool:
        return self.routed.decision.tier == request_pb2.TIER_REALTIME


@dataclass(frozen=True)
class Forward:
    """The request goes on to another stage."""

    topic: str
    routed: envelope_pb2.Routed


@dataclass(frozen=True)
class Retry:
    """The request waits at its topic's end until that time (seconds since 1970). attempt: what failed now."""

    not_before_s: float
    attempt: result_pb2.Attempt


Outcome = Answer | Failure | Forward | Retry


class Settle(Protocol):
    def __call__(self, job: Job, outcome: Outcome) -> bool:
        """The job is done with. False where that comes too late: expired, cancelled or gone to another replica."""
        ...


class Worker(Protocol):
    """A service's own work. It is called from the event loop, and settles each job once."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin work on these and return at once."""
        ...

    def release(self, job: Job) -> bool:
        """Give up a job that has not been worked on. False where work on it runs."""
        ...

    def abandon(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these any more: spare the work that is left."""
        ...

    async def drain(self) -> None:
        """Finish what runs; no new jobs will come. What only waits may be left."""
        ...

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:
        """Offsets of what is to be taken before its turn, to wait here; `room` of them at most.

        held: keys of batches of which nothing is to be started.
        """
        ...

    def told(self, batch: BatchName, word: Word) -> None:
        """Somebody said this of a batch. Of its jobs those that are to end or to wait were taken back before."""


class Stage:
    """Implements the processor's `Strategy`."""

    def __init__(
        self,
        service: str,
        finish: Finish,
        make_worker: Callable[[Settle], Worker],
        *,
        models: Sequence[ModelSettings],
        clock: Clock,
        tracing: Tracing,
        control: Control,
    ) -> None:
        self._service = service
        self._finish = finish
        self._models = models
        self._clock = clock
        self._tracing = tracing
        self._control = control
        self._jobs: dict[Taken, Job] = {}
        self._deadlines = Agenda[Job]()
        self._waiting = Agenda[Job]()
        """Jobs that are not to be started yet, by the time from which they are."""
        self._held: dict[BatchName, dict[Job, None]] = {}
        """Jobs that are not to be started until somebody says so, in their order."""
        self._worker = make_worker(self._settle)

    # What the processor calls

    def submit(self, taken: Sequence[Taken]) -> None:
        now = self._clock.now()
        ready: list[Job] = []
        for each in taken:
            job = self._open(each)
            if job is None:
                continue
            outcome = settled(job.routed)
            start_s = not_before_s(each.record)
            if outcome is not None:
                self._settle(job, outcome)
            elif self._is_cancelled(job):
                self._cancel(job)
            elif job.deadline_s <= now:
                self._expire(job)
            else:
                self._deadlines.add(job.deadline_s, job)
                if start_s > now:
                    self._waiting.add(start_s, job)
                else:
                    ready.append(job)
        self._start(ready)

    def tick(self) -> None:
        now = self._clock.now()
        ended: list[Job] = []
        if cancelled := set(self._control.news()):
            ended += self._cancel_all([job for job in self._jobs.values() if job.taken.record.key in cancelled])
        for job in self._deadlines.due(now):
            self._expire(job)
            ended.append(job)
        self._abandon(ended)
        self._heed(self._control.batch_news())
        self._start(self._waiting.due(now))

    async def ahead(self, unread: Unread, room: int) -> Sequence[int]:
        offsets = {*unread.overdue(int(self._clock.now() * 1000)), *unread.overtaking(request_pb2.TIER_REALTIME)}
        if self._control.cancelled:
            offsets.update(unread.having("key", self._control.cancelled))
        if batches := self._control.batches("cancel"):
            offsets.update(unread.having("batch", [batch.key for batch in batches]))
        held = [batch.key for batch in self._control.batches("hold")]
        if any(self._held.values()):
            # What is held takes the places of others, which are had all the same.
            offsets.update(unread.waiting(held)["offset"][:room].tolist())
        offsets.update(await self._worker.ahead(unread, held, room))
        return sorted(offsets)

    def release(self, taken: Taken) -> bool:
        job = self._jobs.get(taken)
        if job is None or (job.started and not self._worker.release(job)):
            return False
        self._close(job, "moved")
        return True

    def drop(self, taken: Sequence[Taken]) -> None:
        jobs = [job for each in taken if (job := self._jobs.get(each))]
        for job in jobs:
            self._close(job, "lost")
        self._abandon(jobs)

    async def drain(self) -> None:
        await self._worker.drain()

    # From record to job, from outcome to records

    def _open(self, taken: Taken) -> Job | None:
        """None where the record is no envelope: it went to the dead letters."""
        record = taken.record
        topic = record.partition.topic
        try:
            routed = parse_routed(record)
        except DecodeError as failure:
            # No traceback: the record is at fault, not the code.
            logger.warning("a record of %s-%d is no envelope: %s", *record.partition, failure)
            self._finish(taken, [dead_letter(record, self._service, Code.MALFORMED, f"no envelope: {failure}")])
            return None
        received = self._tracing.received(
            topic, record.headers, partition=record.partition.number, offset=record.offset
        )
        about = {
            telemetry.REQUEST_ID: routed.request.id,
            telemetry.TENANT: routed.request.tenant,
            telemetry.TIER: TIER_WORDS[routed.decision.tier],
        }
        span = self._tracing.process(topic, received, about)
        job = Job(taken, routed, span, routed.decision.deadline.ToNanoseconds() / 1e9)
        self._jobs[taken] = job
        return job

    def _start(self, jobs: Sequence[Job]) -> None:
        ready: list[Job] = []
        for job in jobs:
            batch = batch_of(job.routed.request)
            if batch and self._control.word_of(batch) == "hold":
                self._held.setdefault(batch, {})[job] = None
            else:
                job.started = True
                ready.append(job)
        if ready:
            self._worker.start(ready)

    def _abandon(self, jobs: Sequence[Job]) -> None:
        if begun := [job for job in jobs if job.started]:
            self._worker.abandon(begun)

    # What is said of whole batches

    def _heed(self, news: Mapping[BatchName, Word]) -> None:
        if not news:
            return
        jobs: dict[BatchName, list[Job]] = defaultdict(list)
        for job in self._jobs.values():
            if batch := batch_of(job.routed.request):
                jobs[batch].append(job)
        for batch, word in news.items():
            those = jobs[batch]
            if word == "cancel":
                self._abandon(self._cancel_all(those))
            elif word == "hold":
                for job in those:
                    # What runs is finished.
                    if job.started and self._worker.release(job):
                        job.started = False
                        self._held.setdefault(batch, {})[job] = None
            self._worker.told(batch, word)
            if word == "resume":
                self._start([*self._held.pop(batch, {})])

    def _is_cancelled(self, job: Job) -> bool:
        control = self._control
        return job.taken.record.key in control.cancelled or control.word_of(batch_of(job.routed.request)) == "cancel"

    def _cancel_all(self, jobs: Sequence[Job]) -> Sequence[Job]:
        for job in jobs:
            self._cancel(job)
        return jobs

    def _expire(self, job: Job) -> None:
        metrics.DEADLINES_EXPIRED.labels(self._service, TIER_WORDS[job.routed.decision.tier]).inc()
        self._settle(job, Failure(EXPIRED))

    def _cancel(self, job: Job) -> None:
        metrics.REQUESTS_CANCELLED.labels(self._service).inc()
        self._settle(job, Failure(CANCELLED))

    def _settle(self, job: Job, outcome: Outcome) -> bool:
        if not job.wanted:
            metrics.LATE_ANSWERS.labels(self._service).inc()
            if isinstance(outcome, Answer) and outcome.from_model:
                tokens = outcome.usage.input_tokens + outcome.usage.output_tokens
                metrics.WASTED_TOKENS.labels(outcome.served_by.model).inc(tokens)
            return False
        self._finish(job.taken, self._records(job, outcome), urgent=job.urgent)
        self._close(job, type(outcome).__name__.lower())
        return True

    def _records(self, job: Job, outcome: Outcome) -> list[Outgoing]:
        now = self._clock.now()
        routed = outcome.routed if isinstance(outcome, Forward) else job.routed
        spent = routed.timings_ms[self._service] + (now - job.taken.taken_at) * 1000
        routed.timings_ms[self._service] = round(spent, 1)
        match outcome:
            case Forward(topic):
                return self._fitting(job, forwarded_record(job.taken.record, topic, routed, job.span), now)
            case Retry(start_s, attempt):
                routed.attempts.append(attempt)
                wait_s = round(start_s - now, 1)
                self._log("to be tried again", job, attempt.error.code, model=attempt.model, after_s=wait_s)
                return self._fitting(job, retried_record(job.taken.record, routed, start_s, job.span), now)
            case Answer() | Failure():
                return self._results(job, outcome, now)

    def _fitting(self, job: Job, record: Outgoing, now: float) -> list[Outgoing]:
        """What no topic takes would be tried for ever, with all that is to be written with it."""
        return [record] if record.size <= CONTENT_BYTES else self._results(job, _too_large(record.size), now)

    def _results(self, job: Job, outcome: Answer | Failure, now: float) -> list[Outgoing]:
        routed = job.routed
        result = result_of(routed, outcome, self._models, now, telemetry.trace_id(job.span))
        if routed.HasField("sample"):
            return self._audited(job, outcome, result, now)
        value = encode(result, routed.format)
        if isinstance(outcome, Answer) and len(value) > CONTENT_BYTES:
            return self._results(job, _too_large(len(value)), now)
        self._observe(job, result)
        if result.error.code:
            self._log("a result without an answer", job, result.error.code, status=STATUS_WORDS[result.status])
        span = self._tracing.send(topics.RESULTS, job.span)
        headers = telemetry.inject(((CONTENT_TYPE, content_type_of(routed.format)),), span)
        span.end()
        key = routed_key(routed)
        records = [Outgoing(topics.RESULTS, key, value, headers)]
        if isinstance(outcome, Failure) and outcome.dead_letter:
            error = outcome.error
            records.append(dead_letter(job.taken.record, self._service, Code(error.code), error.message))
        return [*records, *self._lessons(job, outcome, now)]

    def _audited(self, job: Job, outcome: Answer | Failure, result: result_pb2.Result, now: float) -> list[Outgoing]:
        """Nobody waits for this result, and no dead letter is made of it: replayed, it would be a request."""
        value = audit_pb2.Audit(sample=job.routed.sample, result=result).SerializeToString()
        if isinstance(outcome, Answer) and len(value) > CONTENT_BYTES:
            return self._results(job, _too_large(len(value)), now)
        metrics.series(metrics.COST_USD, ROUTE_WORDS[result.served_by.route], result.served_by.model).inc(
            float(result.cost_usd)
        )
        span = self._tracing.send(topics.AUDIT, job.span)
        headers = telemetry.inject(PROTOBUF, span)
        span.end()
        record = Outgoing(topics.AUDIT, routed_key(job.routed), value, headers)
        return [record, *self._lessons(job, outcome, now)]

    def _lessons(self, job: Job, outcome: Answer | Failure, now: float) -> list[Outgoing]:
        lesson = learned(job.routed, outcome, now)
        if lesson is None:
            return []
        headers = telemetry.inject((), job.span)
        record = Outgoing(topics.LEARN, routed_key(job.routed), lesson.SerializeToString(), headers)
        return [record] if record.size <= CONTENT_BYTES else []

    def _log(self, event: str, job: Job, code: str, **more: object) -> None:
        """A line by which a person finds what became of a request. What is as usual has none."""
        request = job.routed.request
        about = {"trace_id": telemetry.trace_id(job.span), "request_id": request.id, "tenant": request.tenant}
        logger.info(event, extra={**about, "code": code, **more})

    def _observe(self, job: Job, result: result_pb2.Result) -> None:
        tier = TIER_WORDS[job.routed.decision.tier]
        route = ROUTE_WORDS[result.served_by.route]
        metrics.series(metrics.RESULTS, STATUS_WORDS[result.status], route, tier).inc()
        metrics.series(metrics.RESULT_SECONDS, route, tier).observe(result.timings_ms["total"] / 1000)
        metrics.series(metrics.COST_USD, route, result.served_by.model).inc(float(result.cost_usd))
        metrics.series(metrics.COST_SYNC_USD, route, result.served_by.model).inc(float(result.cost_sync_usd))
        span = job.span
        if span.is_recording():
            span.set_attribute(telemetry.STATUS, STATUS_WORDS[result.status])
            span.set_attribute(telemetry.ROUTE, route)
            span.set_attribute(telemetry.COST_USD, float(result.cost_usd))
            span.set_attribute(telemetry.INPUT_TOKENS, result.usage.input_tokens)
            span.set_attribute(telemetry.OUTPUT_TOKENS, result.usage.output_tokens)
            if result.error.code:
                span.set_attribute(telemetry.ERROR_TYPE, result.error.code)

    def _close(self, job: Job, outcome: str) -> None:
        del self._jobs[job.taken]
        if self._held and (batch := batch_of(job.routed.request)):
            self._held.get(batch, {}).pop(job, None)
        if job.span.is_recording():
            job.span.set_attribute(telemetry.OUTCOME, outcome)
        job.span.end()


def _too_large(size: int) -> Failure:
    message = (
        f"with all that belongs to it the record would have {size} bytes, and Kafka takes {CONTENT_BYTES}: send less, "
        "or ask for a shorter answer"
    )
    return Failure(result_pb2.Error(code=Code.REQUEST_TOO_LARGE, message=message, retryable=False))
