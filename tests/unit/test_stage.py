"""A stage settles each job once, and what it writes is a result, a lesson, or the request going on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from millpond.v1 import audit_pb2, envelope_pb2, request_pb2, result_pb2
from millpond_core import telemetry, topics
from millpond_core.batch_name import BatchName
from millpond_core.clock import ManualClock
from millpond_core.control import Control, Word
from millpond_core.dead_letter import PREFIX
from millpond_core.envelope import BATCH_TOPICS, NOT_BEFORE_HEADER, described, routed_record
from millpond_core.errors import Code, EngineError
from millpond_core.processor import (
    ATTEMPT_HEADER,
    CONTENT_BYTES,
    OffsetMap,
    Outgoing,
    Partition,
    Record,
    Taken,
    Unread,
    header,
)
from millpond_core.processor.processor import Assignment
from millpond_core.processor.unread import ROW
from millpond_core.result import Answer, Failure
from millpond_core.settings import Settings
from millpond_core.stage import Forward, Job, Outcome, Retry, Settle, Stage
from millpond_core.telemetry import Tracing

NOW = 1_800_000_000.0
ENGINE_DOWN = EngineError(Code.ENGINE_UNAVAILABLE, "away", retryable=True).to_error()


def routed(**settled: object) -> envelope_pb2.Routed:
    envelope = envelope_pb2.Routed(
        request=request_pb2.Request(
            id="one", tenant="acme", messages=[request_pb2.Message(role="user", content="What is a mill?")]
        ),
        decision=result_pb2.Decision(tier=request_pb2.TIER_STANDARD, model="smollm2-135m"),
        **settled,  # pyright: ignore[reportArgumentType]
    )
    envelope.accepted_at.FromSeconds(int(NOW))
    envelope.decision.deadline.FromSeconds(int(NOW) + 60)
    return envelope


def answer(route: result_pb2.Route = result_pb2.ROUTE_SMALL) -> Answer:
    return Answer(
        result_pb2.Output(text="A machine.", finish_reason="stop"),
        result_pb2.ServedBy(route=route, model="smollm2-135m"),
        result_pb2.Usage(input_tokens=10, output_tokens=5),
    )


@dataclass
class Recorder:
    """A worker that only remembers."""

    settle: Settle
    started: list[Job] = field(default_factory=list)
    abandoned: list[Job] = field(default_factory=list)
    heard: list[tuple[BatchName, Word]] = field(default_factory=list)
    ahead_of_turn: Sequence[int] = ()
    asked_ahead: tuple[Collection[bytes], int] | None = None
    running: bool = False
    """Whether it works on its jobs already."""

    def start(self, jobs: Sequence[Job]) -> None:
        self.started += jobs

    def release(self, job: Job) -> bool:
        return not self.running and job in self.started

    def abandon(self, jobs: Sequence[Job]) -> None:
        self.abandoned += jobs

    async def drain(self) -> None: ...

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:
        self.asked_ahead = (held, room)
        return self.ahead_of_turn

    def told(self, batch: BatchName, word: Word) -> None:
        self.heard.append((batch, word))


@dataclass
class Bench:
    """A stage whose records the test gives and whose outcomes it reads."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    control: Control = field(default_factory=Control)
    written: list[Outgoing] = field(default_factory=list)
    urgent: list[bool] = field(default_factory=list)
    assignment: Assignment = field(
        default_factory=lambda: Assignment(Partition(topics.BATCH_STANDARD, 0), OffsetMap(0))
    )

    def __post_init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracing = Tracing(provider)
        workers: list[Recorder] = []

        def make(settle: Settle) -> Recorder:
            workers.append(Recorder(settle))
            return workers[0]

        self.stage = Stage(
            "batcher",
            self.finish,
            make,
            models=Settings().models,
            clock=self.clock,
            tracing=self.tracing,
            control=self.control,
        )
        (self.worker,) = workers

    def finish(self, taken: Taken, outgoing: Sequence[Outgoing], *, urgent: bool = False) -> bool:
        assert taken.live
        taken.finished = True
        self.written += outgoing
        self.urgent.append(urgent)
        return True

    def take(self, envelope: envelope_pb2.Routed, **headers: bytes) -> Taken:
        sent = routed_record(topics.BATCH_STANDARD, envelope, self.tracing.send(topics.BATCH_STANDARD, None))
        further = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return self.take_bytes(sent.value, (*sent.headers, *further))

    def take_bytes(self, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Taken:
        record = Record(self.assignment.partition, 0, int(NOW * 1000), b"acme/one", value, headers)
        taken = Taken(record, self.assignment, self.clock.now())
        self.stage.submit([taken])
        return taken

    def settle(self, outcome: Outcome) -> bool:
        return self.worker.settle(self.worker.started[-1], outcome)

    def result(self) -> result_pb2.Result:
        (record,) = [each for each in self.written if each.topic == topics.RESULTS]
        return result_pb2.Result.FromString(record.value or b"")


def protobuf(**settled: object) -> envelope_pb2.Routed:
    envelope = routed(**settled)
    envelope.format = envelope_pb2.WIRE_FORMAT_PROTOBUF
    return envelope


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any, Any]]:
    return [(line.msg, vars(line)["code"], vars(line)["trace_id"]) for line in caplog.records]


def test_what_has_no_answer_is_in_the_log_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    bench.take(protobuf())
    bench.settle(Retry(NOW + 5, result_pb2.Attempt(model="smollm2-135m", error=ENGINE_DOWN)))
    bench.take(protobuf())
    bench.settle(Failure(ENGINE_DOWN))
    failed = bench.result().trace_id
    bench.written.clear()
    bench.take(protobuf())
    bench.clock.advance(120)
    bench.stage.tick()
    again, *others = logged(caplog)
    assert again[:2] == ("to be tried again", "engine_unavailable")
    assert again[2] in {telemetry.trace_id(job.span) for job in bench.worker.started}
    assert others == [
        ("a result without an answer", "engine_unavailable", failed),
        ("a result without an answer", "deadline_passed", bench.result().trace_id),
    ]
    assert "What is a mill?" not in caplog.text


def test_an_answer_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    bench.take(protobuf())
    bench.settle(answer())
    assert not caplog.records


def test_an_answer_is_a_result_and_a_lesson() -> None:
    bench = Bench()
    bench.take(protobuf())
    bench.clock.advance(0.5)
    assert bench.settle(answer())
    assert [each.topic for each in bench.written] == [topics.RESULTS, topics.LEARN]
    assert {each.key for each in bench.written} == {b"acme/one"}
    result = bench.result()
    assert (result.id, result.tenant, result.status) == ("one", "acme", result_pb2.STATUS_OK)
    assert result.output.text == "A machine."
    assert result.timings_ms == {"batcher": 500.0, "total": 500.0}
    # 15 tokens at the small model's 0.05 dollars and at the large one's 10 per million.
    assert (result.cost_usd, result.cost_sync_usd) == ("0.000001", "0.000150")


def test_a_cached_answer_costs_nothing_and_is_not_learned_again() -> None:
    bench = Bench()
    bench.take(protobuf())
    bench.settle(answer(result_pb2.ROUTE_CACHE))
    assert [each.topic for each in bench.written] == [topics.RESULTS]
    assert bench.result().cost_usd == "0.000000"


def test_an_answer_that_no_topic_takes_is_an_error_and_is_not_learned() -> None:
    for envelope in (protobuf(), sampled()):
        bench = Bench()
        bench.take(envelope)
        long = answer()
        long.output.text = "x" * CONTENT_BYTES
        assert bench.settle(long)
        (record,) = bench.written
        assert record.size <= CONTENT_BYTES
        if record.topic == topics.RESULTS:
            assert bench.result().error.code == Code.REQUEST_TOO_LARGE
        else:
            assert record.topic == topics.AUDIT
            assert audit_pb2.Audit.FromString(record.value or b"").result.error.code == Code.REQUEST_TOO_LARGE


def test_a_lesson_that_no_topic_takes_is_left_out_and_the_answer_is_given() -> None:
    bench = Bench()
    envelope = protobuf()
    envelope.request.messages[0].content = "x" * (CONTENT_BYTES // 2)
    bench.take(envelope)
    long = answer()
    long.output.text = "y" * (CONTENT_BYTES // 2)
    assert bench.settle(long)
    assert [each.topic for each in bench.written] == [topics.RESULTS]
    assert bench.result().status == result_pb2.STATUS_OK


def test_a_request_that_no_topic_takes_any_more_is_an_error() -> None:
    attempt = result_pb2.Attempt(model="m", error=result_pb2.Error(code=Code.ENGINE_ERROR, message="away"))
    envelope = protobuf()
    envelope.request.messages[0].content = "x" * CONTENT_BYTES
    for outcome in (Forward(topics.FRONTIER, envelope), Retry(NOW + 1, attempt)):
        bench = Bench()
        bench.take(envelope)
        assert bench.settle(outcome)
        assert bench.result().error.code == Code.REQUEST_TOO_LARGE


def sampled() -> envelope_pb2.Routed:
    return routed(sample=audit_pb2.Sample(source_id="zero", given=result_pb2.Output(text="A building.")))


def test_what_nobody_waits_for_is_told_to_the_audit_and_learned_and_is_no_result() -> None:
    bench = Bench()
    bench.take(sampled())
    bench.settle(answer())
    audit, lesson = bench.written
    assert (audit.topic, lesson.topic) == (topics.AUDIT, topics.LEARN)
    told = audit_pb2.Audit.FromString(audit.value or b"")
    assert told.sample.source_id == "zero"
    assert told.result.output.text == "A machine."
    # What it cost is there, since the engines counted it.
    assert told.result.usage == result_pb2.Usage(input_tokens=10, output_tokens=5)


def test_what_nobody_waits_for_leaves_no_dead_letter_that_could_become_a_request() -> None:
    bench = Bench()
    bench.take(sampled())
    bench.settle(Failure(ENGINE_DOWN, dead_letter=True))
    (audit,) = bench.written
    assert audit.topic == topics.AUDIT
    assert audit_pb2.Audit.FromString(audit.value or b"").result.status == result_pb2.STATUS_ERROR


def test_what_may_not_be_kept_is_not_learned() -> None:
    bench = Bench()
    envelope = protobuf()
    envelope.request.cache.mode = request_pb2.CACHE_MODE_BYPASS
    bench.take(envelope)
    bench.settle(answer())
    assert [each.topic for each in bench.written] == [topics.RESULTS]


def test_past_its_deadline_a_job_expires_and_a_later_answer_is_dropped() -> None:
    bench = Bench()
    bench.take(protobuf())
    bench.clock.advance(59.9)
    bench.stage.tick()
    assert bench.written == []
    bench.clock.advance(0.2)
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_EXPIRED
    assert bench.result().error.code == Code.DEADLINE_PASSED
    assert bench.worker.abandoned == bench.worker.started
    assert not bench.settle(answer())
    assert len(bench.written) == 1


def cancel(bench: Bench, id: str) -> None:
    value = b'{"cancel": {"tenant": "acme", "id": "%s"}}' % id.encode()
    bench.control.hear([Record(Partition(topics.CONTROL, 0), 0, 0, None, value, ())])


def test_a_cancelled_job_ends_and_a_later_answer_is_dropped() -> None:
    bench = Bench()
    bench.take(protobuf())
    cancel(bench, "another")
    bench.stage.tick()
    assert bench.written == []
    cancel(bench, "one")
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_CANCELLED
    assert bench.result().error.code == Code.CANCELLED
    assert bench.worker.abandoned == bench.worker.started
    assert not bench.settle(answer())
    assert len(bench.written) == 1


MARCH = BatchName("acme", "march")


def of_march() -> envelope_pb2.Routed:
    envelope = protobuf()
    envelope.request.metadata["batch"] = MARCH.name
    return envelope


def say(bench: Bench, word: Word) -> None:
    value = b'{"%s_batch": {"tenant": "acme", "name": "march"}}' % word.encode()
    bench.control.hear([Record(Partition(topics.CONTROL, 0), 0, 0, None, value, ())])
    bench.stage.tick()


def test_a_batch_that_is_held_is_not_started_until_it_is_resumed() -> None:
    bench = Bench()
    say(bench, "hold")
    bench.take(of_march())
    bench.take(protobuf())
    bench.clock.advance(1)
    bench.stage.tick()
    (other,) = bench.worker.started
    assert not other.routed.request.metadata
    say(bench, "resume")
    assert bench.worker.heard == [(MARCH, "hold"), (MARCH, "resume")]
    assert len(bench.worker.started) == 2


@pytest.mark.parametrize("running", [False, True])
def test_of_a_batch_that_is_held_what_runs_is_finished_and_what_waits_comes_back(running: bool) -> None:
    bench = Bench()
    bench.take(of_march())
    bench.worker.running = running
    say(bench, "hold")
    say(bench, "resume")
    assert len(bench.worker.started) == (1 if running else 2)
    bench.settle(answer())
    assert bench.result().status == result_pb2.STATUS_OK


def test_what_is_held_expires_and_can_be_moved_like_anything_that_waits() -> None:
    bench = Bench()
    say(bench, "hold")
    moved = bench.take(of_march())
    bench.take(of_march())
    assert bench.stage.release(moved)
    moved.finished = True
    bench.clock.advance(61)
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_EXPIRED
    say(bench, "resume")
    assert bench.worker.started == []


def test_a_batch_that_is_cancelled_ends_wherever_it_is() -> None:
    bench = Bench()
    bench.take(of_march())
    say(bench, "cancel")
    assert bench.worker.abandoned == bench.worker.started
    assert bench.result().status == result_pb2.STATUS_CANCELLED
    bench.take(of_march())
    assert [each.topic for each in bench.written] == [topics.RESULTS] * 2
    say(bench, "resume")
    bench.take(of_march())
    assert len(bench.worker.started) == 2


def test_a_request_that_was_cancelled_before_it_came_is_not_started() -> None:
    bench = Bench()
    cancel(bench, "one")
    bench.stage.tick()
    bench.take(protobuf())
    assert bench.worker.started == []
    assert bench.result().status == result_pb2.STATUS_CANCELLED


def test_one_that_was_answered_stays_answered() -> None:
    bench = Bench()
    bench.take(protobuf())
    bench.settle(answer())
    cancel(bench, "one")
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_OK


async def test_what_waits_unread_is_wanted_once_it_is_overdue_or_cancelled_or_the_worker_asks_for_it() -> None:
    bench = Bench()
    unread = unread_of(bench, ("early", "late", "cancelled", "march"))
    assert await bench.stage.ahead(unread, 5) == []
    bench.clock.advance(11)
    assert await bench.stage.ahead(unread, 5) == [0]
    cancel(bench, "cancelled")
    assert await bench.stage.ahead(unread, 5) == [0, 2]
    say(bench, "cancel")
    assert await bench.stage.ahead(unread, 5) == [0, 2, 3]
    bench.worker.ahead_of_turn = [1]
    assert await bench.stage.ahead(unread, 5) == [0, 1, 2, 3]
    assert bench.worker.asked_ahead == ([], 5)


async def test_realtime_behind_others_is_wanted_though_they_leave_no_room() -> None:
    bench = Bench()
    unread = unread_of(bench, ("one", "urgent", "two", "urgent"))
    assert await bench.stage.ahead(unread, 0) == [1, 3]


async def test_what_is_held_does_not_hold_up_what_waits_unread_behind_it() -> None:
    bench = Bench()
    say(bench, "hold")
    unread = unread_of(bench, ("march", "one", "march", "two", "three"))
    assert await bench.stage.ahead(unread, 2) == []
    bench.take(of_march())
    assert await bench.stage.ahead(unread, 2) == [1, 3]
    assert bench.worker.asked_ahead == ([MARCH.key], 2)
    say(bench, "resume")
    assert await bench.stage.ahead(unread, 2) == []


def unread_of(bench: Bench, ids: Sequence[str]) -> Unread:
    """ "early" is due in 10 s, the others in a minute; "march" is of that batch, "urgent" is realtime."""
    unread = Unread()
    rows: list[tuple[int, ...]] = []
    for offset, id in enumerate(ids):
        envelope = of_march() if id == "march" else routed()
        envelope.request.id = id
        if id == "urgent":
            envelope.decision.tier = request_pb2.TIER_REALTIME
        envelope.decision.deadline.FromSeconds(int(NOW) + (10 if id == "early" else 60))
        sent = routed_record(topics.BATCH_STANDARD, envelope, bench.tracing.send(topics.BATCH_STANDARD, None))
        rows.append(described(Record(bench.assignment.partition, offset, 0, sent.key, sent.value, sent.headers)))
    unread.append(np.array(rows, ROW))
    return unread


def test_a_job_that_comes_too_late_is_not_started() -> None:
    bench = Bench()
    bench.clock.advance(61)
    bench.take(protobuf())
    assert bench.worker.started == []
    assert bench.result().status == result_pb2.STATUS_EXPIRED


def test_a_deadline_of_a_millisecond_is_told_to_have_passed_and_its_neighbour_goes_on() -> None:
    bench = Bench()
    hurried = protobuf()
    hurried.decision.deadline.FromNanoseconds(int(NOW * 1e9) + 1_000_000)
    bench.take(hurried)
    bench.take(protobuf())
    bench.clock.advance(0.002)
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_EXPIRED
    assert bench.worker.abandoned == bench.worker.started[:1]
    assert bench.settle(answer())


def test_a_clock_that_jumps_expires_what_is_due_and_leaves_the_rest() -> None:
    bench = Bench()
    bench.take(protobuf())
    bench.clock.advance(-86_400)
    bench.stage.tick()
    assert bench.written == []
    bench.clock.advance(2 * 86_400)
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_EXPIRED


def test_a_refused_request_is_an_error_result_with_its_reason() -> None:
    bench = Bench()
    bench.take(protobuf(reject=result_pb2.Error(code=Code.EMPTY_MESSAGES, message="add one")))
    assert bench.worker.started == []
    assert bench.result().status == result_pb2.STATUS_ERROR
    assert bench.result().error.code == Code.EMPTY_MESSAGES


def test_what_the_sync_tier_answered_is_published_and_learned() -> None:
    bench = Bench()
    given = answer(result_pb2.ROUTE_FRONTIER)
    answered = envelope_pb2.Answered(
        output=given.output, served_by=given.served_by, usage=given.usage, status=result_pb2.STATUS_OK
    )
    bench.take(protobuf(answered=answered))
    assert bench.result().output == given.output
    assert [each.topic for each in bench.written] == [topics.RESULTS, topics.LEARN]


def test_a_forwarded_request_keeps_its_trace_and_adds_its_time() -> None:
    bench = Bench()
    bench.take(routed())
    bench.clock.advance(0.25)
    job = bench.worker.started[0]
    bench.settle(Forward(BATCH_TOPICS[request_pb2.TIER_OVERNIGHT], job.routed))
    (record,) = bench.written
    assert record.topic == topics.BATCH_OVERNIGHT
    onward = envelope_pb2.Routed.FromString(record.value or b"")
    assert onward.timings_ms == {"batcher": 250.0}
    assert telemetry.trace_id(job.span).encode() in (header(record.headers, "traceparent") or b"")


def test_a_retry_waits_at_the_end_of_its_own_partition_with_what_failed() -> None:
    bench = Bench()
    bench.take(routed(), attempt=b"1")
    bench.settle(Retry(NOW + 5, result_pb2.Attempt(model="smollm2-135m", error=ENGINE_DOWN)))
    (record,) = bench.written
    assert (record.topic, record.partition) == (topics.BATCH_STANDARD, 0)
    assert header(record.headers, ATTEMPT_HEADER) == b"2"
    assert header(record.headers, NOT_BEFORE_HEADER) == b"%d" % ((NOW + 5) * 1000)
    again = envelope_pb2.Routed.FromString(record.value or b"")
    assert [attempt.error.code for attempt in again.attempts] == [Code.ENGINE_UNAVAILABLE]


def test_tokens_of_attempts_that_failed_are_paid_for() -> None:
    bench = Bench()
    envelope = protobuf()
    envelope.attempts.add(model="stand-in-large", usage=result_pb2.Usage(input_tokens=100, output_tokens=0))
    bench.take(envelope)
    bench.settle(answer())
    assert (bench.result().usage.input_tokens, bench.result().cost_usd) == (110, "0.001001")


def test_a_job_is_not_started_before_its_time() -> None:
    bench = Bench()
    bench.take(routed(), not_before_ms=b"%d" % ((NOW + 5) * 1000))
    bench.stage.tick()
    assert bench.worker.started == []
    bench.clock.advance(5)
    bench.stage.tick()
    assert len(bench.worker.started) == 1


def test_a_job_that_waits_for_its_time_expires_all_the_same() -> None:
    bench = Bench()
    bench.take(protobuf(), not_before_ms=b"%d" % ((NOW + 500) * 1000))
    bench.clock.advance(61)
    bench.stage.tick()
    assert bench.result().status == result_pb2.STATUS_EXPIRED
    bench.clock.advance(500)
    bench.stage.tick()
    assert bench.worker.started == []


def test_what_is_no_envelope_goes_to_the_dead_letters_as_it_was() -> None:
    bench = Bench()
    bench.take_bytes(b"\xff\xff", (("own", b"header"),))
    (record,) = bench.written
    assert (record.topic, record.value, record.key) == (topics.DEADLETTER, b"\xff\xff", b"acme/one")
    assert header(record.headers, "own") == b"header"
    assert header(record.headers, f"{PREFIX}reason") == Code.MALFORMED.encode()
    assert header(record.headers, f"{PREFIX}topic") == topics.BATCH_STANDARD.encode()


def test_a_poison_is_an_error_result_and_a_dead_letter_as_it_came() -> None:
    bench = Bench()
    taken = bench.take(protobuf())
    error = result_pb2.Error(code=Code.POISON, message="the model died")
    bench.settle(Failure(error, dead_letter=True))
    result, letter = bench.written
    assert (result.topic, letter.topic) == (topics.RESULTS, topics.DEADLETTER)
    assert bench.result().error == error
    assert (letter.key, letter.value) == (taken.record.key, taken.record.value)
    assert header(letter.headers, f"{PREFIX}reason") == Code.POISON.encode()


def test_when_its_partition_goes_a_job_is_abandoned() -> None:
    bench = Bench()
    taken = bench.take(routed())
    bench.assignment.live = False
    bench.stage.drop([taken])
    assert bench.worker.abandoned == bench.worker.started
    assert not bench.settle(answer())
    assert bench.written == []


def test_realtime_is_urgent() -> None:
    bench = Bench()
    envelope = routed()
    envelope.decision.tier = request_pb2.TIER_REALTIME
    bench.take(envelope)
    bench.settle(Failure(ENGINE_DOWN))
    bench.take(routed())
    bench.settle(Failure(ENGINE_DOWN))
    assert bench.urgent == [True, False]


def test_every_hop_is_three_spans_in_one_line() -> None:
    bench = Bench()
    bench.take(routed())
    bench.settle(Failure(ENGINE_DOWN))
    spans = {span.name: span for span in bench.spans.get_finished_spans()}
    receive = spans[f"receive {topics.BATCH_STANDARD}"]
    process = spans[f"process {topics.BATCH_STANDARD}"]
    send = spans[f"send {topics.RESULTS}"]
    assert process.parent == receive.context
    assert send.parent == process.context
    assert receive.end_time is not None
    assert process.start_time is not None
    assert receive.end_time <= process.start_time
    traceparent = header(bench.written[0].headers, "traceparent") or b""
    assert send.context is not None
    assert f"{send.context.span_id:016x}".encode() in traceparent
    assert bench.worker.started[0].routed.request.messages[0].content not in str(process.attributes)
