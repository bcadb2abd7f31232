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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_cli.stack import Stack
from millpond_core import topics
from millpond_core.embedding import pack
from millpond_core.envelope import routed_record
from millpond_core.identity import body_hash, key_of
from millpond_core.processor import Outgoing
from millpond_core.telemetry import Tracing, trace_id
from millpond_core.topic_admin import make_topics

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")

PORTS = 22_000
"""Port base of this file's stack."""

PARTITIONS = 2

PATIENCE_S = 20.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

MODEL = "smollm2-135m"
EMBEDDER = "test-embedder-1"
ELSEWHERE = {topics.BATCH_REALTIME, topics.BATCH_STANDARD, topics.BATCH_OVERNIGHT, topics.FRONTIER}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    run = tmp_path_factory.mktemp("stack")
    with Stack(HOME, PORTS, only={"kafka", "milvus", "triton"}, run=run) as running:
        admin = AdminClient({"bootstrap.servers": running.addresses.kafka})
        make_topics(admin, topics.TOPICS, PARTITIONS, 1)
        yield running


@dataclass
class Cache:
    """A running cache, and both ends of its topics."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    log: Path
    traces: Path
    producer: Producer
    consumer: Consumer
    seen: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])

    def send(self, outgoing: Outgoing) -> None:
        self.producer.produce(outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers))
        self.producer.flush()

    def outcome(self, routed: envelope_pb2.Routed) -> tuple[str, bytes]:
        """Where the request went: the topic and the record's value."""
        span = Tracing().send(topics.ROUTED, None)
        self.send(routed_record(topics.ROUTED, routed, span, body_hash(routed.request)))
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

    def teach(self, routed: envelope_pb2.Routed, text: str) -> None:
        """As a model's stage does it when it answers."""
        learned = envelope_pb2.Learned(
            request=routed.request,
            output=result_pb2.Output(text=text, finish_reason="stop"),
            served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=routed.decision.model),
            usage=result_pb2.Usage(input_tokens=7, output_tokens=5),
        )
        if routed.HasField("embedding"):
            learned.embedding.CopyFrom(routed.embedding)
        learned.answered_at.FromNanoseconds(time.time_ns())
        key = key_of(routed.request.tenant, routed.request.id)
        self.send(Outgoing(topics.LEARN, key, learned.SerializeToString()))

    def lookup(self, request: request_pb2.Request) -> services_pb2.LookupResponse:
        with grpc.insecure_channel(self.grpc) as channel:
            stub: Any = services_pb2_grpc.CacheStub(channel)
            return stub.Lookup(services_pb2.LookupRequest(request=request, model=MODEL))

    def knows_store(self) -> bool:
        return self.reason(request("What does the store say?")) != "cache.unavailable"

    def reason(self, asked: request_pb2.Request) -> str:
        return self.lookup(asked).reasons[0].code

    def _read(self, id: str) -> bool:
        for message in self.consumer.consume(100, 0.1):
            if message.error() is None:
                name = bytes(message.key() or b"").decode().partition("/")[2]
                assert name not in self.seen, f"two outcomes of {name}"
                self.seen[name] = (str(message.topic()), bytes(message.value() or b""))
        return id in self.seen


@pytest.fixture(scope="module")
def cache(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    folder = tmp_path_factory.mktemp("cache")
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
        "MILLPOND_TRACES_FILE": str(folder / "traces.jsonl"),
    }
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "millpond_cache"], env=environment, stdout=sink, stderr=sink)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "isolation.level": "read_committed"})
    consumer.subscribe([topics.RESULTS, *ELSEWHERE])
    try:
        until(lambda: answers(f"http://127.0.0.1:{http}/readyz"))
        until(lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == PARTITIONS * 5)
        yield Cache(
            process,
            f"http://127.0.0.1:{http}",
            f"127.0.0.1:{grpc_port}",
            log,
            folder / "traces.jsonl",
            Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"}),
            consumer,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, log.read_text()[-4000:]
    except BaseException:
        print(log.read_text()[-8000:])
        raise
    finally:
        process.kill()
        process.wait()
        consumer.close()


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
    return values / np.linalg.norm(values)


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

    _, far = cache.forwarded(routed(request("How deep is the North Sea at most?"), near(vector(2), 0.9)))
    assert far.decision.reasons[0].code == "cache.miss.below_threshold"
    assert far.decision.reasons[0].value == pytest.approx(0.9, abs=1e-3)

    _, denied = cache.forwarded(routed(request("How deep is the North Sea not?"), near(vector(2), 0.99)))
    assert (denied.decision.reasons[0].code, denied.decision.reasons[0].detail) == ("cache.miss.guard", "negations")

    _, blind = cache.forwarded(routed(request("How deep is it?")))
    assert blind.decision.reasons[0].code == "cache.miss.no_embedding"


# Patience


def until(condition: Callable[[], T]) -> T:
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
