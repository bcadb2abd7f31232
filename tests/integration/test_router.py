"""The router on a real Kafka and the real embedder: what comes in on ai.requests comes out on ai.routed, or is dead."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import (
    _DefaultRecordBatchBuilderPy,  # pyright: ignore[reportPrivateUsage]
)
from confluent_kafka import Consumer, Message, Producer
from prometheus_client import REGISTRY

from millpond.v1 import envelope_pb2, feedback_pb2, request_pb2, result_pb2
from millpond_cli import feedback_topic, metrics_page
from millpond_cli.commands.route import decided
from millpond_cli.here import settings_of
from millpond_cli.stack import Stack, free_port_base
from millpond_core import topics
from millpond_core.embedding import unpack
from millpond_core.errors import Code
from millpond_core.settings import Settings
from millpond_core.telemetry import TRACEPARENT
from millpond_router import head_folder
from millpond_router.ahead import FAR_BEHIND
from millpond_router.brain import NOTHING, Brain
from millpond_router.heads import Heads, write
from millpond_router.learning import learn
from millpond_router.outcomes import ALARM
from millpond_router.settings import RouterSection

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")

PATIENCE_S = 120.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

FLOOD = 3000
"""Requests: what the embedder needs seconds for."""

BOUND_TOPIC = "ai.requests.acme"

Header = tuple[str, bytes | None]

SHIPPED = head_folder.read(head_folder.SHIPPED)

STRANGER = "another-embedder-00000000"
"""The embedder that candidate heads are for when the stack starts."""


def put_heads(folder: Path, made: Heads, number: str = "98") -> str:
    """Switch to these heads; their version."""
    version = write(made, number, folder / f"heads-{number}.npz", {})
    head_folder.write_manifest(folder, f"heads-{number}.npz")
    return version


@dataclass
class Pond:
    """A stack of Kafka, Triton and router, with a producer of requests and a consumer of what becomes of them.

    run: the stack's folder. In it, heads: what the router reads; candidates: what decides beside them.
    """

    stack: Stack
    run: Path
    producer: Producer
    consumer: Consumer
    seen: dict[str, list[Message]] = field(default_factory=lambda: defaultdict[str, list[Message]](list))
    """By trace id, all that ever came."""

    def send(
        self,
        values: Sequence[bytes | None],
        headers: Sequence[Header] = (),
        topic: str = topics.REQUESTS,
        key: bytes | None = None,
    ) -> list[str]:
        """Their trace ids: what tells one record from another, whatever it holds. Those of one key are in one line."""
        traces = [uuid.uuid4().hex for _ in values]
        for trace, value in zip(traces, values, strict=True):
            own = (TRACEPARENT, f"00-{trace}-{trace[:16]}-01".encode())
            self.producer.produce(topic, value, key, headers=[own, *headers])
        assert self.producer.flush(PATIENCE_S) == 0
        return traces

    def outcomes_of(self, traces: Sequence[str]) -> list[Message]:
        """What became of each, in their order, once all is there."""
        deadline = time.monotonic() + PATIENCE_S
        while missing := [trace for trace in traces if trace not in self.seen]:
            assert time.monotonic() < deadline, f"nothing became of {len(missing)} of {len(traces)}"
            self._read()
        return [self.seen[trace][0] for trace in traces]

    def outcome(self, value: bytes | None, *headers: Header, topic: str = topics.REQUESTS) -> Message:
        return self.outcomes_of(self.send([value], headers, topic))[0]

    def route(self, value: bytes, *headers: Header, topic: str = topics.REQUESTS) -> envelope_pb2.Routed:
        return envelope_of(self.outcome(value, *headers, topic=topic))

    def route_until(self, value: bytes, holds: Callable[[envelope_pb2.Routed], bool]) -> envelope_pb2.Routed:
        """Route the same again until this holds of what comes out."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(routed := self.route(value)):
            assert time.monotonic() < deadline, routed.decision
        return routed

    def await_log(self, words: str) -> None:
        """Until the router has said it."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in (self.run / "logs" / "router.log").read_text():
            assert time.monotonic() < deadline, words
            time.sleep(0.1)

    def read_to_the_end(self) -> None:
        """All that was written until now."""
        ends = {part: self.consumer.get_watermark_offsets(part)[1] for part in self.consumer.assignment()}
        while any(part.offset < ends[part] for part in self.consumer.position(list(ends)) if ends[part] > 0):
            self._read()

    @property
    def heads(self) -> Path:
        return self.run / "heads"

    @property
    def candidates(self) -> Path:
        return self.run / "candidates"

    def counted(self, name: str) -> float:
        return metrics_page.read([f"{self.stack.addresses.http['router']}/metrics"]).total(name)

    def _read(self) -> None:
        for message in self.consumer.consume(500, 0.5):
            if message.error() is None:
                self.seen[trace_of(message)].append(message)


def trace_of(message: Message) -> str:
    return next(value.decode().split("-")[1] for name, value in headers_of(message) if name == TRACEPARENT and value)


def headers_of(message: Message) -> list[Any]:
    return list(message.headers() or ())


def envelope_of(message: Message) -> envelope_pb2.Routed:
    assert message.topic() == topics.ROUTED, headers_of(message)
    return envelope_pb2.Routed.FromString(message.value() or b"")


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    run = tmp_path_factory.mktemp("router")
    environment = {
        "MILLPOND_TENANTS_BY_TOPIC": json.dumps({BOUND_TOPIC: "acme"}),
        "MILLPOND_ROUTER__QUALITY": json.dumps({"tenants": {"careful": {"min_quality": 0.7}}}),
        "MILLPOND_ROUTER__LEARN": "true",
        "MILLPOND_ROUTER__HEADS": str(run / "heads"),
        "MILLPOND_ROUTER__SHADOW_HEADS": str(run / "candidates"),
    }
    shutil.copytree(head_folder.SHIPPED, run / "heads")
    (run / "candidates").mkdir()
    put_heads(run / "candidates", replace(SHIPPED, embedder=STRANGER))
    only = {"kafka", "topics", "triton", "router"}
    with Stack(HOME, free_port_base(), only=only, environment=environment, run=run) as stack:
        settings = settings_of(stack.addresses)
        producer = Producer(settings.kafka_client({"message.max.bytes": 8 << 20}))
        reading = {"group.id": "test", "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
        consumer = Consumer(settings.kafka_client(reading))
        consumer.subscribe([topics.ROUTED, topics.DEADLETTER])
        try:
            yield Pond(stack, run, producer, consumer)
        finally:
            consumer.close()


def request_of(content: str = "What is the name of this river?", **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}]} | fields).encode()


def warm_embedder(pond: Pond) -> None:
    """One that has just been started is not waited for: requests go on without it."""
    while not pond.route(request_of("Is the embedder warm?")).HasField("embedding"):
        pass


def test_a_realtime_request_does_not_wait_for_the_flood_before_it(pond: Pond) -> None:
    warm_embedder(pond)
    many = [request_of(f"What is the number {number} good for?", tier="overnight") for number in range(FLOOD)]
    flood = pond.send(many, key=b"one line")
    (urgent,) = pond.send([request_of(tier="realtime")], key=b"one line")
    (first,), others = pond.outcomes_of([urgent]), pond.outcomes_of(flood)
    later = sum(each.timestamp() > first.timestamp() for each in others)
    own = RouterSection()
    # What is in the router's hands at once, a realtime request passes in any case.
    assert later > own.batch * own.batches_in_flight + FAR_BEHIND
    pond.read_to_the_end()
    assert all(len(pond.seen[trace]) == 1 for trace in [urgent, *flood])


def test_a_request_goes_on_with_its_decision_and_its_embedding(pond: Pond) -> None:
    warm_embedder(pond)
    message = pond.outcome(request_of(id="a-1", tenant="acme", tier="realtime"))
    routed = envelope_of(message)
    assert message.key() == b"acme/a-1"
    assert (routed.request.id, routed.request.tenant) == ("a-1", "acme")
    assert routed.decision.route == result_pb2.ROUTE_SMALL
    assert [reason.code for reason in routed.decision.reasons] == ["default"]
    due_s = routed.decision.deadline.ToNanoseconds() / 1e9 - routed.accepted_at.ToNanoseconds() / 1e9
    assert due_s == pytest.approx(30)
    assert unpack(routed.embedding).shape == (384,)
    assert routed.timings_ms["router"] > 0


def test_the_heads_judge_each_prompt_and_the_result_can_tell_why(pond: Pond) -> None:
    warm_embedder(pond)
    judgement = pond.route(request_of("Transfer 200 dollars from savings to checking.")).decision.judgement
    assert judgement.heads.startswith(SHIPPED.version)
    assert judgement.domain == "banking"
    assert [option.model for option in judgement.options] == ["smollm2-135m", "stand-in-large"]
    assert judgement.options[0].verdict == "chosen"
    assert all(0 < option.quality < 1 for option in judgement.options)


def test_a_tenants_floor_is_met_and_outcomes_move_what_is_promised(pond: Pond) -> None:
    warm_embedder(pond)
    ask = request_of("Which planet is the largest?", tenant="careful")
    before = pond.route(ask).decision
    assert (before.model, before.reasons[-1].code) == ("stand-in-large", "quality.cheapest")
    option = before.judgement.options[0]
    assert option.verdict == "quality"
    good = [
        feedback_pb2.Feedback(
            id=str(number),
            tenant="careful",
            model=option.model,
            good=1,
            source="review",
            heads=before.judgement.heads,
            quality=option.quality,
            raw_quality=option.raw_quality,
        )
        for number in range(2000)
    ]
    feedback_topic.send(settings_of(pond.stack.addresses), good)
    # They are learned from as they are read, some at a time.
    after = pond.route_until(ask, lambda routed: routed.decision.judgement.options[0].quality > 0.9).decision
    assert after.model == option.model
    assert after.judgement.heads.startswith(f"{before.judgement.heads.partition('+')[0]}+")
    # 2,000 good answers where some were promised to be bad: the promises were wrong, and that is named.
    assert pond.counted("millpond_promise_drift") >= ALARM
    pond.await_log(f"{option.model} answers better than promised")
    # A router that is not to learn names it as well, and promises what it did.
    brain = Brain(pond.run / "heads")
    brain.look()
    asyncio.run(meet_drift(settings_of(pond.stack.addresses), brain, option.model))
    assert brain.learned is NOTHING


async def meet_drift(settings: Settings, brain: Brain, model: str) -> None:
    listening = asyncio.create_task(learn(settings, brain, teach=False))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (REGISTRY.get_sample_value("millpond_promise_drift", {"model": model}) or 0) < ALARM:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        listening.cancel()
        await asyncio.wait([listening])


def test_the_command_line_tells_what_the_router_would_decide(pond: Pond) -> None:
    text = "My card was charged twice for one coffee; what can I do?"
    routed = pond.route(request_of(text))
    request = request_pb2.Request(tenant="default", model="auto")
    request.messages.add(role="user", content=text)
    told = decided(request, None, None)
    assert (told.model, told.tier, told.reasons) == (
        *(routed.decision.model, routed.decision.tier, routed.decision.reasons),
    )
    one, other = told.judgement, routed.decision.judgement
    assert (one.domain, one.task, one.features) == (other.domain, other.task, other.features)
    assert (one.heads, other.heads.partition("+")[0]) == (SHIPPED.version, SHIPPED.version)
    for option, live in zip(one.options, other.options, strict=True):
        assert (option.model, option.verdict, option.cost_usd) == (live.model, live.verdict, live.cost_usd)
        # A vector depends a little on what shares its batch.
        assert option.raw_quality == pytest.approx(live.raw_quality, abs=0.01)


def test_heads_are_switched_refused_and_taken_away_while_the_router_runs(pond: Pond) -> None:
    ask = request_of("Which planet is the smallest?", tenant="careful")

    def heads_are(version: str) -> Callable[[envelope_pb2.Routed], bool]:
        return lambda routed: routed.decision.judgement.heads.partition("+")[0] == version

    pond.route_until(ask, heads_are(SHIPPED.version))
    shipped = json.loads((pond.heads / head_folder.MANIFEST).read_text())["file"]
    second = put_heads(pond.heads, SHIPPED)
    pond.route_until(ask, heads_are(second))
    (pond.heads / "heads-99.npz").write_bytes(b"no heads")
    head_folder.write_manifest(pond.heads, "heads-99.npz")
    pond.await_log("heads-99.npz: is damaged")
    assert heads_are(second)(pond.route(ask))
    (pond.heads / head_folder.MANIFEST).unlink()
    alone = pond.route_until(ask, lambda routed: not routed.decision.HasField("judgement"))
    assert [reason.code for reason in alone.decision.reasons] == ["default", "heads.unavailable"]
    head_folder.write_manifest(pond.heads, shipped)
    pond.route_until(ask, heads_are(SHIPPED.version))


def test_candidates_for_another_embedder_are_named_at_the_start_and_others_decide_beside_the_live_heads(
    pond: Pond,
) -> None:
    pond.await_log(f"is for the embedder {STRANGER}, and the embedder is {SHIPPED.embedder}: nothing is compared")
    put_heads(pond.candidates, SHIPPED, "97")
    deadline = time.monotonic() + PATIENCE_S
    while not pond.counted("millpond_shadow_decisions_total"):
        pond.route(request_of("Which river is the longest?"))
        assert time.monotonic() < deadline
    assert pond.route(request_of("Which lake is the deepest?")).decision.judgement.heads.startswith(SHIPPED.version)


def test_work_that_is_like_an_example_goes_where_the_example_goes(pond: Pond) -> None:
    routed = pond.route(request_of("Show that the square root of 2 is not a rational number, please."))
    reason = routed.decision.reasons[0]
    assert (reason.code, routed.decision.route) == ("rule.like_hard_work", result_pb2.ROUTE_FRONTIER)
    assert 0.55 <= reason.value <= 1


def test_protobuf_and_compressed_records_are_read(pond: Pond) -> None:
    request = request_pb2.Request.FromString(b"")
    request.messages.add(role="user", content="Good morning")
    routed = pond.route(request.SerializeToString(), ("content-type", b"application/protobuf"))
    assert routed.format == envelope_pb2.WIRE_FORMAT_PROTOBUF
    for codec in ("gzip", "lz4", "snappy", "zstd"):
        settings = settings_of(pond.stack.addresses)
        producer = Producer(settings.kafka_client({"compression.type": codec}))
        compressed = Pond(pond.stack, pond.run, producer, pond.consumer, pond.seen)
        assert compressed.route(request_of(id=codec, metadata={"padding": "x" * 500})).request.id == codec


def test_an_id_that_is_left_out_is_the_records_and_the_topics_tenant_is_the_tenant(pond: Pond) -> None:
    first, second = (pond.route(request_of(tenant="evil"), topic=BOUND_TOPIC) for _ in range(2))
    assert first.request.tenant == second.request.tenant == "acme"
    assert first.request.id != second.request.id
    topic_id, partition, offset = first.request.id.rsplit("-", 2)
    assert len(topic_id) == 22
    assert int(partition) >= 0
    assert int(offset) >= 0


PROTOBUF: Header = ("content-type", b"application/protobuf")

DEAD: dict[str, tuple[bytes | None, list[Header], Code]] = {
    "tombstone": (None, [], Code.MALFORMED),
    "empty": (b"", [], Code.MALFORMED),
    "not UTF-8": (b'{"id": "\xff"}', [], Code.MALFORMED),
    "not JSON": (b"hello", [], Code.MALFORMED),
    "a list": (b"[1, 2]", [], Code.MALFORMED),
    "not protobuf": (b"\xff\xff\xff\xff", [PROTOBUF], Code.MALFORMED),
    "3.9 MB of no JSON": (b"x" * 3_900_000, [], Code.REQUEST_TOO_LARGE),
}

REFUSED: dict[str, tuple[bytes, list[Header], Code]] = {
    "wrong shape": (b'{"id": "r", "messages": "hello"}', [], Code.INVALID_FIELD),
    "no messages": (b'{"id": "r"}', [], Code.EMPTY_MESSAGES),
    "empty messages": (b'{"id": "r", "messages": []}', [], Code.EMPTY_MESSAGES),
    "past the context": (request_of("word " * 60_000, id="r"), [], Code.CONTEXT_LENGTH_EXCEEDED),
    "2 MB": (request_of("x" * 2_000_000, id="r"), [], Code.REQUEST_TOO_LARGE),
    "unknown tier": (request_of(id="r", tier="soon"), [], Code.INVALID_FIELD),
    "unknown model": (request_of(id="r", model="gpt-9"), [], Code.UNKNOWN_MODEL),
    "unknown field": (request_of(id="r", priority=1), [], Code.UNKNOWN_FIELD),
    "a deadline in the past": (request_of(id="r", deadline="2001-01-01T00:00:00Z"), [], Code.DEADLINE_PASSED),
    "a NUL": (request_of("a\0b", id="r"), [], Code.INVALID_TEXT),
    "an id of 10,000 characters": (request_of(id="x" * 10_000), [], Code.INVALID_FIELD),
    "an unknown content-type": (request_of(id="r"), [("content-type", b"text/plain")], Code.MALFORMED),
}

SERVED: dict[str, tuple[bytes, list[Header]]] = {
    "headers of the wrong type": (
        request_of(),
        [("content-type", None), ("replay", b"\xff\x00"), ("tracestate", b"\xff"), ("tenant", None), ("", b"")],
    ),
    "a thousand headers": (request_of(), [(f"header-{number}", os.urandom(9)) for number in range(1000)]),
}


def test_each_bad_record_gives_exactly_one_record_and_the_router_goes_on(pond: Pond) -> None:
    bad = {**DEAD, **REFUSED, **SERVED}
    traces = {name: pond.send([case[0]], case[1])[0] for name, case in bad.items()}
    pond.outcomes_of(list(traces.values()))
    assert pond.route(request_of(id="after"))
    pond.read_to_the_end()
    for name, trace in traces.items():
        (message,) = pond.seen[trace]
        value, given = bad[name][:2]
        if name in DEAD:
            assert message.topic() == topics.DEADLETTER, name
            assert message.value() == (value or b""), name
            headers = headers_of(message)
            assert headers[1 : 1 + len(given)] == given, name
            assert ("dead-letter-reason", DEAD[name][2].encode()) in headers, name
            assert ("dead-letter-topic", topics.REQUESTS.encode()) in headers, name
        elif name in REFUSED:
            routed = envelope_of(message)
            assert routed.reject.code == REFUSED[name][2], name
            assert routed.reject.message, name
            assert (routed.request.id == "r") == (name != "an id of 10,000 characters"), name
        else:
            assert not envelope_of(message).HasField("reject"), name
    assert pond.stack.status()["router"].restarts == 0


async def test_a_header_whose_name_is_not_utf_8_stops_nothing(pond: Pond) -> None:
    class Strange(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
            return b"\xff\xfe"

    trace = uuid.uuid4().hex
    headers: list[Header] = [(TRACEPARENT, f"00-{trace}-{trace[:16]}-01".encode()), (Strange(), b"value")]
    producer = AIOKafkaProducer(bootstrap_servers=pond.stack.addresses.kafka)
    await producer.start()
    try:
        batch = producer.create_batch()
        builder = _DefaultRecordBatchBuilderPy(
            magic=2,
            compression_type=0,
            is_transactional=False,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=1 << 16,
        )
        builder.append(0, int(time.time() * 1000), None, b"no request", headers)
        batch._builder, batch._relative_offset = builder, 1  # pyright: ignore
        await (await producer.send_batch(batch, topics.REQUESTS, partition=0))
    finally:
        await producer.stop()
    (message,) = pond.outcomes_of([trace])
    assert message.topic() == topics.DEADLETTER
    assert ("\\xff\\xfe", b"value") in headers_of(message)
    assert pond.route(request_of(id="after a strange name"))


def test_a_kafka_that_is_gone_for_a_while_loses_nothing(pond: Pond) -> None:
    traces = pond.send([request_of(f"Number {number}?") for number in range(300)])
    pond.stack.kill("kafka")
    pond.stack.wait_ready("kafka")
    traces += pond.send([request_of(f"Number {number}?") for number in range(300, 400)])
    assert len(pond.outcomes_of(traces)) == 400


def test_without_an_embedder_requests_go_on_by_rules_and_exact_matches(pond: Pond) -> None:
    pond.stack.halt("triton")
    try:
        # A text that was embedded a moment ago is still known.
        routed = pond.route(request_of("A text that nobody has sent before."))
        assert not routed.HasField("embedding")
        assert [reason.code for reason in routed.decision.reasons] == ["default", "embedder.unavailable"]
    finally:
        pond.stack.restart("triton")
    deadline = time.monotonic() + PATIENCE_S
    while not pond.route(request_of()).HasField("embedding"):
        assert time.monotonic() < deadline, "the embedder is back, and not asked"


def test_the_metrics_count_what_was_done(pond: Pond) -> None:
    before = pond.counted("millpond_records_finished_total")
    pond.outcomes_of(pond.send([request_of(), b"no request"]))
    deadline = time.monotonic() + PATIENCE_S
    while pond.counted("millpond_records_finished_total") < before + 2:
        assert time.monotonic() < deadline
    assert pond.counted("millpond_decisions_total") > 0
    assert pond.counted("millpond_dead_letters_total") > 0


# The process


@contextmanager
def router(kafka: str, **environment: str) -> Generator[subprocess.Popen[str]]:
    """The router as a process of its own, without an embedder."""
    own = {"MILLPOND_KAFKA_BOOTSTRAP": kafka, "MILLPOND_TRITON": "127.0.0.1:1", **environment}
    packages = os.pathsep.join(str(REPOSITORY / part) for part in ("core", "proto/python", "services/router"))
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond_router"],
        env={**os.environ, "PYTHONPATH": packages, **own},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_event(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The log line of this event. It comes, or the process ends."""
    assert process.stderr is not None
    for line in process.stderr:
        if event in line:
            return json.loads(line)
    raise AssertionError(f"it ended with {process.wait()} and never said {event!r}")


def test_a_router_that_is_stopped_in_the_middle_loses_no_request(pond: Pond) -> None:
    """500 requests; SIGTERM as soon as the first came out, while the others are on their way; then a second router."""
    pond.stack.halt("router")
    try:
        traces = pond.send([request_of(f"What is {number} times two?") for number in range(500)])
        with router(pond.stack.addresses.kafka) as process:
            await_event(process, "assigned")
            deadline = time.monotonic() + PATIENCE_S
            while not any(trace in pond.seen for trace in traces):
                assert time.monotonic() < deadline
                pond._read()  # pyright: ignore[reportPrivateUsage]
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    finally:
        pond.stack.restart("router")
    pond.outcomes_of(traces)


def test_a_router_that_is_killed_loses_no_request(pond: Pond) -> None:
    traces = pond.send([request_of(f"What is {number} times three?") for number in range(500)])
    pond.stack.kill("router")
    traces += pond.send([request_of(f"What is {number} times four?") for number in range(100)])
    pond.outcomes_of(traces)


def test_a_wrong_start_is_one_line_for_each_problem(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("default: small\nrules:\n- {name: a, when: {tenant: b}, model: none}\n")
    with router("127.0.0.1:1", MILLPOND_ROUTER__RULES=str(rules)) as process:
        assert process.wait(PATIENCE_S) == 2
        assert process.stderr is not None
        lines = [line for line in process.stderr.read().splitlines() if not line.startswith("{")]
    assert lines == [
        f"millpond-router: {rules}: rule a: model: 'none' is none of frontier, small, smollm2-135m, stand-in-large",
    ]
    security = json.dumps({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"})
    with router("127.0.0.1:1", MILLPOND_KAFKA=security) as process:
        assert process.wait(PATIENCE_S) == 2
        assert process.stderr is not None
        assert "sasl.mechanism: the router can use PLAIN" in process.stderr.read()


def test_a_kafka_that_is_away_at_the_start_is_waited_for_and_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with router("127.0.0.1:1", MILLPOND_HTTP_PORT=str(port)) as process:
        assert await_event(process, "waiting for Kafka at 127.0.0.1:1")["level"] == "WARNING"
        with pytest.raises(urllib.error.HTTPError) as page:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
        assert page.value.code == 503
        assert b"waiting for Kafka at 127.0.0.1:1" in page.value.read()
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
