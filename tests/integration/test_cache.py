"""The cache as a process, on the real Kafka, Milvus and embedder: what it answers, sends on, learns and survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from numpy.typing import NDArray

from millpond.v1 import audit_pb2, envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_cache.cacheable import shipped_head
from millpond_cache.sample import sample_request
from millpond_cli.stack import Stack, free_port_base
from millpond_core import topics
from millpond_core.embedding import pack
from millpond_core.envelope import routed_record
from millpond_core.identity import body_hash, key_of
from millpond_core.processor import Outgoing
from millpond_core.telemetry import CACHE_OUTCOME, CACHE_SIMILARITY, CACHE_SOURCE_ID, REQUEST_ID, Tracing
from millpond_core.topic_admin import make_topics

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")

PARTITIONS = 2

PATIENCE_S = 120.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

MODEL = "smollm2-135m"
EMBEDDER = shipped_head().embedder
ELSEWHERE = {topics.BATCH_REALTIME, topics.BATCH_STANDARD, topics.BATCH_OVERNIGHT, topics.FRONTIER}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    run = tmp_path_factory.mktemp("stack")
    with Stack(HOME, free_port_base(), only={"kafka", "milvus", "triton"}, run=run) as running:
        admin = AdminClient({"bootstrap.servers": running.addresses.kafka})
        make_topics(admin, topics.TOPICS, PARTITIONS, 1)
        yield running


@dataclass
class Cache:
    """A running cache, and both ends of its topics."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    traces: Path
    producer: Producer
    consumer: Consumer
    seen: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    letters: list[Message] = field(default_factory=list[Message])

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the cache has ended"
        return answers(f"{self.http}/readyz")

    def send(self, outgoing: Outgoing) -> None:
        self.producer.produce(outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers))
        self.producer.flush()

    def ask(self, routed: envelope_pb2.Routed) -> None:
        span = Tracing().send(topics.ROUTED, None)
        self.send(routed_record(topics.ROUTED, routed, span, body_hash(routed.request)))

    def outcome(self, routed: envelope_pb2.Routed) -> tuple[str, bytes]:
        """Where the request went: the topic and the record's value."""
        self.ask(routed)
        return self.await_outcome(routed.request.id)

    def await_outcome(self, id: str) -> tuple[str, bytes]:
        until(lambda: self._read(id))
        return self.seen[id]

    def result(self, routed: envelope_pb2.Routed) -> dict[str, Any]:
        topic, value = self.outcome(routed)
        assert topic == topics.RESULTS, topic
        return json.loads(value)

    def forwarded(self, routed: envelope_pb2.Routed) -> tuple[str, envelope_pb2.Routed]:
        topic, value = self.outcome(routed)
        assert topic in ELSEWHERE, json.loads(value)
        return topic, envelope_pb2.Routed.FromString(value)

    def teach(self, routed: envelope_pb2.Routed, text: str, answered_ns: int | None = None) -> None:
        """As a model's stage does it when it answers. answered_ns: since 1970; now, unless it is given."""
        learned = envelope_pb2.Learned(
            request=routed.request,
            output=result_pb2.Output(text=text, finish_reason="stop"),
            served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=routed.decision.model),
            usage=result_pb2.Usage(input_tokens=7, output_tokens=5),
        )
        if routed.HasField("embedding"):
            learned.embedding.CopyFrom(routed.embedding)
        learned.answered_at.FromNanoseconds(answered_ns or time.time_ns())
        key = key_of(routed.request.tenant, routed.request.id)
        self.send(Outgoing(topics.LEARN, key, learned.SerializeToString()))

    def lookup(self, request: request_pb2.Request) -> services_pb2.LookupResponse:
        with grpc.insecure_channel(self.grpc) as channel:
            stub: Any = services_pb2_grpc.CacheServiceStub(channel)
            return stub.Lookup(services_pb2.LookupRequest(request=request, model=MODEL))

    def knows_store(self) -> bool:
        return self.reason(request("How many mills are there in Kinderdijk?")).startswith("cache.miss")

    def reason(self, asked: request_pb2.Request) -> str:
        return self.lookup(asked).reasons[0].code

    def _read(self, id: str) -> bool:
        for message in self.consumer.consume(100, 0.1):
            if message.error() is None:
                name = bytes(message.key() or b"").decode().partition("/")[2]
                if message.topic() == topics.DEADLETTER:
                    self.letters.append(message)
                    continue
                assert name not in self.seen, f"two outcomes of {name}"
                self.seen[name] = (str(message.topic()), bytes(message.value() or b""))
        return id in self.seen


@contextmanager
def running(stack: Stack, folder: Path, replica: int) -> Generator[Cache]:
    """A cache that is ready; told to stop at the end, and seen to do it."""
    http, grpc_port = free_ports(2)
    bootstrap = stack.addresses.kafka
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in ("core", "proto/python", "services/cache")),
        "MILLPOND_KAFKA_BOOTSTRAP": bootstrap,
        "MILLPOND_MILVUS": stack.addresses.milvus,
        "MILLPOND_TRITON": stack.addresses.triton,
        "MILLPOND_PARTITIONS": str(PARTITIONS),
        "MILLPOND_HTTP_PORT": str(http),
        "MILLPOND_GRPC_PORT": str(grpc_port),
        "MILLPOND_STATE_DIR": str(folder / "state"),
        "MILLPOND_REPLICA": str(replica),
        # Generous: what is tested here is the way of an answer, not how sure the verifier is.
        "MILLPOND_CACHE__ERROR_BUDGET": "0.3",
        "MILLPOND_CACHE__SAMPLE_SHARE": "1",
        "MILLPOND_TRACES_FILE": str(folder / "traces.jsonl"),
    }
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "millpond_cache"], env=environment, stdout=sink, stderr=sink)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique(), "isolation.level": "read_committed"})
    consumer.subscribe([topics.RESULTS, topics.DEADLETTER, *ELSEWHERE])
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    cache = Cache(
        process, f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc_port}", folder / "traces.jsonl", producer, consumer
    )
    try:
        until(cache.is_ready)
        until(lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == PARTITIONS * 6)
        yield cache
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        # pytest shows it where a test failed.
        print(log.read_text()[-8000:])
        process.kill()
        process.wait()
        consumer.close()


@pytest.fixture(scope="module")
def cache(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    with running(stack, tmp_path_factory.mktemp("cache"), replica=0) as cache:
        yield cache


@pytest.fixture
def cache_with_store(cache: Cache) -> Cache:
    """Whatever happened to Milvus before."""
    until(cache.knows_store)
    return cache


# Requests


def request(text: str, tenant: str = "acme", **fields: Any) -> request_pb2.Request:
    messages = [request_pb2.Message(role="user", content=text)]
    return request_pb2.Request(id=unique(), tenant=tenant, model="auto", messages=messages, **fields)


def routed(
    asked: request_pb2.Request,
    vector: NDArray[np.float32] | None = None,
    *,
    tier: request_pb2.Tier = request_pb2.TIER_STANDARD,
    route: result_pb2.Route = result_pb2.ROUTE_SMALL,
) -> envelope_pb2.Routed:
    decision = result_pb2.Decision(tier=tier, route=route, model=MODEL)
    decision.deadline.FromSeconds(int(time.time()) + 3600)
    envelope = envelope_pb2.Routed(request=asked, decision=decision, format=envelope_pb2.WIRE_FORMAT_JSON)
    envelope.accepted_at.FromNanoseconds(time.time_ns())
    if vector is not None:
        envelope.embedding.CopyFrom(pack(vector, EMBEDDER, 12))
    return envelope


def unique() -> str:
    return f"request-{time.time_ns()}"


def vector(seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=384).astype(np.float32)
    return (values / np.linalg.norm(values)).astype(np.float32)


def near(other: NDArray[np.float32], cosine: float) -> NDArray[np.float32]:
    """A vector at this cosine from the other one."""
    across = vector(99)
    across -= (across @ other) * other
    across /= np.linalg.norm(across)
    return (cosine * other + np.sqrt(1 - cosine**2) * across).astype(np.float32)


def reasons(decision: Any) -> list[str]:
    return [reason["code"] for reason in decision["reasons"]]


# What it does


def test_a_request_that_nobody_asked_before_goes_on(cache_with_store: Cache) -> None:
    asked = routed(request("How many mills are there in Kinderdijk?"), vector(1))
    topic, on = cache_with_store.forwarded(asked)
    assert topic == topics.BATCH_STANDARD
    assert [reason.code for reason in on.decision.reasons] == ["cache.miss.empty"]
    assert on.request == asked.request
    assert on.embedding == asked.embedding


@pytest.mark.parametrize(
    ("tier", "route", "topic"),
    [
        (request_pb2.TIER_REALTIME, result_pb2.ROUTE_SMALL, topics.BATCH_REALTIME),
        (request_pb2.TIER_OVERNIGHT, result_pb2.ROUTE_SMALL, topics.BATCH_OVERNIGHT),
        (request_pb2.TIER_REALTIME, result_pb2.ROUTE_FRONTIER, topics.FRONTIER),
        (request_pb2.TIER_OVERNIGHT, result_pb2.ROUTE_FRONTIER, topics.FRONTIER),
    ],
)
def test_tier_and_route_say_where_a_miss_goes(
    cache: Cache, tier: request_pb2.Tier, route: result_pb2.Route, topic: str
) -> None:
    assert cache.forwarded(routed(request("Where to?"), tier=tier, route=route))[0] == topic


def test_an_answer_that_was_learned_is_given_again(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = routed(request("Where does the Rhine begin?"))
    cache.teach(first, "In Switzerland.")
    until(lambda: cache.reason(first.request) == "cache.exact")
    result = cache.result(routed(request("Where does the Rhine begin?")))
    assert result["status"] == "ok"
    assert result["output"] == {"text": "In Switzerland.", "finish_reason": "stop"}
    assert result["served_by"] == {
        "route": "cache",
        "model": MODEL,
        "cache": {"kind": "exact", "similarity": 1, "source_id": first.request.id},
    }
    assert result["usage"] == {"input_tokens": 7, "output_tokens": 5}
    assert result["cost_usd"] == "0.000000"
    assert reasons(result["decision"]) == ["cache.exact"]


def test_another_text_with_the_same_meaning_has_the_same_answer(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = routed(request("How deep is the North Sea on average?"), vector(2))
    cache.teach(first, "Ninety metres.")

    def again() -> dict[str, Any] | None:
        asked = routed(request("On average, how deep is the North Sea?"), near(vector(2), 0.97))
        topic, value = cache.outcome(asked)
        return json.loads(value) if topic == topics.RESULTS else None

    result = until(again)
    hit = result["served_by"]["cache"]
    assert (hit["kind"], hit["source_id"]) == ("semantic", first.request.id)
    assert hit["similarity"] == pytest.approx(0.97, abs=1e-3)
    assert result["output"]["text"] == "Ninety metres."
    assert reasons(result["decision"]) == ["cache.semantic"]

    _, far = cache.forwarded(routed(request("How deep is the North Sea at most?"), near(vector(2), 0.3)))
    assert far.decision.reasons[0].code == "cache.miss.below_threshold"
    assert far.decision.reasons[0].value == pytest.approx(0.3, abs=1e-3)

    _, denied = cache.forwarded(routed(request("How deep is the North Sea not?"), near(vector(2), 0.99)))
    assert (denied.decision.reasons[0].code, denied.decision.reasons[0].detail) == ("cache.miss.guard", "negations")

    _, blind = cache.forwarded(routed(request("How deep is it?")))
    assert blind.decision.reasons[0].code == "cache.miss.no_embedding"


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_none_matches_nothing_and_spoils_nothing(cache_with_store: Cache, broken: float) -> None:
    """Of a question and of an answer; the same words are found all the same."""
    cache, asks = cache_with_store, f"How wide is the Danube where it is {broken} deep?"
    none = np.full(384, broken, np.float32)
    sound, spoilt = routed(request(f"{asks} And why?"), vector(4)), routed(request(asks), none)
    cache.teach(sound, "Because of its valley.")
    cache.teach(spoilt, "A mile.")
    until(lambda: cache.reason(sound.request) == cache.reason(spoilt.request) == "cache.exact")
    _, on = cache.forwarded(routed(request(f"And then: {asks}"), none))
    assert on.decision.reasons[0].code == "cache.miss.no_embedding"
    assert cache.result(routed(request(asks), none))["output"]["text"] == "A mile."

    def nearest() -> float:
        _, on = cache.forwarded(routed(request(f"{asks} And when?"), near(vector(4), 0.4)))
        return on.decision.reasons[0].value

    # The sound one; the exact hit above may have come from memory, before Milvus showed it.
    until(lambda: nearest() == pytest.approx(0.4, abs=1e-3))


def test_an_answer_stays_with_its_tenant_and_its_system_prompt(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = routed(request("How high is the Brocken?"), vector(3))
    cache.teach(first, "1,141 metres.")
    until(lambda: cache.reason(first.request) == "cache.exact")
    instructed = request("How high is the Brocken?")
    instructed.messages.insert(0, request_pb2.Message(role="system", content="Answer in feet."))
    for asked in (request("How high is the Brocken?", tenant="other"), instructed):
        _, on = cache.forwarded(routed(asked, vector(3)))
        assert [reason.code for reason in on.decision.reasons] == ["cache.miss.empty"]


def test_modes(cache_with_store: Cache) -> None:
    cache = cache_with_store

    def asked(mode: request_pb2.CacheMode) -> envelope_pb2.Routed:
        return routed(request("Who built the first windmill?", cache=request_pb2.CacheOptions(mode=mode)))

    missed = cache.result(asked(request_pb2.CACHE_MODE_ONLY))
    assert (missed["status"], missed["error"]["code"]) == ("error", "cache_miss")
    cache.teach(asked(request_pb2.CACHE_MODE_USE), "The Persians.")
    until(lambda: cache.reason(asked(request_pb2.CACHE_MODE_USE).request) == "cache.exact")
    assert cache.result(asked(request_pb2.CACHE_MODE_ONLY))["output"]["text"] == "The Persians."
    for mode, reason in ((request_pb2.CACHE_MODE_REFRESH, "refresh"), (request_pb2.CACHE_MODE_BYPASS, "bypass")):
        _, on = cache.forwarded(asked(mode))
        assert [each.code for each in on.decision.reasons] == [f"cache.{reason}"]
    cache.teach(asked(request_pb2.CACHE_MODE_REFRESH), "Nobody knows.")
    until(lambda: cache.lookup(asked(request_pb2.CACHE_MODE_USE).request).answer.output.text == "Nobody knows.")


def test_a_copy_is_dropped_and_a_conflict_goes_to_the_dead_letters(cache: Cache) -> None:
    asked = routed(request("Once?"))
    cache.outcome(asked)
    cache.ask(asked)
    other = routed(request("Twice?"))
    other.request.id = asked.request.id
    cache.ask(other)
    # A second outcome of one id fails the reading of any later one.
    until(lambda: cache.outcome(routed(request("And then?"))) and cache.letters)
    (letter,) = cache.letters
    assert dict(letter.headers() or [])["dead-letter-reason"] == b"id_conflict"


# Whether it was right


def test_a_hit_by_meaning_is_asked_of_the_model_too_and_what_that_says_is_heard(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = routed(request("How long is a nautical mile?", tenant="sampled"), vector(21))
    cache.teach(first, "1,852 metres.")
    asked: list[envelope_pb2.Routed] = []

    def hit() -> bool:
        asked.append(routed(request("A nautical mile is how long?", tenant="sampled"), near(vector(21), 0.97)))
        return cache.outcome(asked[-1])[0] == topics.RESULTS

    until(hit)
    topic, value = cache.await_outcome(sample_request(asked[-1].request, None, audit_pb2.Sample(), 0).request.id)
    sample = envelope_pb2.Routed.FromString(value)
    assert topic == topics.BATCH_OVERNIGHT
    assert sample.sample.source_id == first.request.id
    assert sample.sample.given.text == "1,852 metres."
    assert sample.request.messages == asked[-1].request.messages
    # As the batcher tells what a model said to it.
    answers = ("1,852 metres.", "It is the city of Paris that is the capital of France.")
    for text in answers:
        result = result_pb2.Result(tenant="sampled", status=result_pb2.STATUS_OK, output=result_pb2.Output(text=text))
        audit = audit_pb2.Audit(sample=sample.sample, result=result)
        cache.send(Outgoing(topics.AUDIT, b"sampled", audit.SerializeToString()))
    with grpc.insecure_channel(cache.grpc) as channel:
        stub: Any = services_pb2_grpc.CacheServiceStub(channel)
        until(lambda: stub.Stats(services_pb2.StatsRequest(tenant="sampled")).judged >= len(answers))
        stats = stub.Stats(services_pb2.StatsRequest(tenant="sampled"))
    assert (stats.judged, stats.wrong) == (2, 1)
    assert stats.error_low < stats.error < stats.error_high


# What it is to forget


def test_an_order_on_the_control_topic_reaches_what_was_learned_and_what_is_learned_late(
    cache_with_store: Cache,
) -> None:
    cache = cache_with_store
    first = routed(request("What does a mill cost?", metadata={"cache_tag": "prices"}))
    answered_ns = time.time_ns()
    cache.teach(first, "A fortune.", answered_ns)
    until(lambda: cache.reason(first.request) == "cache.exact")
    order = b'{"invalidate": {"tenant": "acme", "tag": "prices", "by": "a test"}}'
    cache.send(Outgoing(topics.CONTROL, b"acme", order))
    until(lambda: cache.reason(first.request) != "cache.exact")
    # The same answer, read once more, and one behind it that is not meant.
    cache.teach(first, "A fortune.", answered_ns)
    other = routed(request("What does a mill earn?"))
    other.request.id = first.request.id
    cache.teach(other, "Little.")
    until(lambda: cache.reason(other.request) == "cache.exact")
    assert cache.reason(first.request) != "cache.exact"


# The sync tier's side


def test_the_sync_tier_gets_the_answer_to_a_paraphrase(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = request("what is the difference between a list and a tuple in python?")
    before = cache.lookup(first)
    # What other tests have taught is there, and is no answer.
    assert before.reasons[0].code in ("cache.miss.empty", "cache.miss.below_threshold")
    assert not before.HasField("answer")
    taught = routed(first)
    taught.embedding.CopyFrom(before.embedding)
    cache.teach(taught, "A tuple cannot be changed.")

    def again() -> services_pb2.LookupResponse | None:
        found = cache.lookup(request("what's the difference between a list and a tuple in python"))
        return found if found.HasField("answer") else None

    found = until(again)
    assert found.answer.status == result_pb2.STATUS_OK
    assert found.answer.output.text == "A tuple cannot be changed."
    assert found.answer.served_by.cache.kind == "semantic"
    assert found.answer.served_by.cache.source_id == first.id
    assert found.answer.usage == result_pb2.Usage(input_tokens=7, output_tokens=5)


def test_a_look_up_without_a_model_is_refused(cache: Cache) -> None:
    with grpc.insecure_channel(cache.grpc) as channel:
        stub: Any = services_pb2_grpc.CacheServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failure:
            stub.Lookup(services_pb2.LookupRequest(request=request("Where to?")))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # pyright: ignore[reportAttributeAccessIssue]


def test_grpc_says_how_it_is_and_what_it_serves(cache: Cache) -> None:
    with grpc.insecure_channel(cache.grpc) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="millpond.v1.CacheService")
        assert health.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        assert "millpond.v1.CacheService" in [each.name for each in listed.list_services_response.service]


# What can be seen of it


def test_the_process_span_tells_what_came_of_the_look_up(cache_with_store: Cache) -> None:
    cache = cache_with_store
    first = routed(request("Where does the Danube end?"))
    cache.teach(first, "In the Black Sea.")
    until(lambda: cache.reason(first.request) == "cache.exact")
    hit, miss = routed(request("Where does the Danube end?")), routed(request("Where does the Danube begin?"))
    cache.result(hit)
    cache.forwarded(miss)

    def told(id: str) -> dict[str, Any] | None:
        spans = (json.loads(line) for line in cache.traces.read_text().splitlines())
        return next((span["attributes"] for span in spans if span["attributes"].get(REQUEST_ID) == id), None)

    attributes = until(lambda: told(hit.request.id))
    assert (attributes[CACHE_OUTCOME], attributes[CACHE_SIMILARITY]) == ("exact", 1.0)
    assert attributes[CACHE_SOURCE_ID] == first.request.id
    assert until(lambda: told(miss.request.id))[CACHE_OUTCOME] == "miss"


# Without Milvus


def test_without_milvus_all_goes_on_and_what_was_learned_is_there_when_it_is_back(
    cache: Cache, stack: Stack, tmp_path: Path
) -> None:
    """Milvus is stopped while it is written to, requests and answers come, a second cache starts meanwhile, and Milvus
    comes back.
    """
    until(cache.knows_store)
    written = [routed(request(f"How long is river number {number}?")) for number in range(100)]
    for each in written:
        cache.teach(each, "Long.")
    first = routed(request("How long is the Elbe from source to mouth?"), vector(5))
    stack.halt("milvus")
    for _ in range(20):
        _, on = cache.forwarded(routed(request("Is anybody there?")))
        assert [reason.code for reason in on.decision.reasons] == ["cache.unavailable"]
    cache.teach(first, "1,094 kilometres.")
    # What this replica had read by then it knows, whether Milvus took it or not.
    until(lambda: cache.outcome(routed(request("How long is river number 0?")))[0] == topics.RESULTS)
    assert cache.is_ready()
    with running(stack, tmp_path, replica=1) as late:
        assert late.reason(request("Is anybody there?")) == "cache.unavailable"
        stack.restart("milvus")
        for each in (cache, late):
            until(each.knows_store)

        def near_text() -> bool:
            asked = routed(request("From source to mouth, how long is the Elbe?"), near(vector(5), 0.98))
            return cache.outcome(asked)[0] == topics.RESULTS

        until(near_text)
        until(lambda: late.reason(first.request) == "cache.exact")
        # What was on its way when Milvus stopped was said again, and is there.
        for each in written:
            text = each.request.messages[0].content
            until(lambda text=text: cache.outcome(routed(request(text)))[0] == topics.RESULTS)


# Patience


def until(condition: Callable[[], T | None]) -> T:
    """What the condition gives when it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came"
    return value


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
