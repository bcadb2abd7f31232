"""What waits unread behind a stage that cannot work ends when its deadline comes, or when it is cancelled."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli import metrics_page
from millpond_cli.here import settings_of
from millpond_cli.stack import Stack, free_port_base
from millpond_core import topics
from millpond_core.envelope import routed_record
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing

HOME = Path(os.environ.get("MILLPOND_HOME") or Path(__file__).resolve().parents[2] / ".millpond")

PATIENCE_S = 180.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

WAITING = 5000
"""More than the batcher has in hand of all partitions together."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    only = {"kafka", "topics", "triton", "batcher"}
    with Stack(HOME, free_port_base(), only=only, model="echo", run=tmp_path) as stack:
        # The batcher is ready once it has seen its model; from here on that is away.
        stack.halt("triton")
        yield stack


def routed(id: str, due_s: float) -> envelope_pb2.Routed:
    made = envelope_pb2.Routed(
        request=request_pb2.Request(
            id=id, tenant="acme", messages=[request_pb2.Message(role="user", content="What is a mill?")]
        ),
        decision=result_pb2.Decision(
            tier=request_pb2.TIER_STANDARD, route=result_pb2.ROUTE_SMALL, model="smollm2-135m"
        ),
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
    )
    now = time.time_ns()
    made.accepted_at.FromNanoseconds(now)
    made.decision.deadline.FromNanoseconds(now + int(due_s * 1e9))
    return made


def send(settings: Settings, requests: list[envelope_pb2.Routed]) -> None:
    producer = Producer(settings.kafka_client({"partitioner": "murmur2_random"}))
    span = Tracing().send(topics.BATCH_STANDARD, None)
    for each in requests:
        record = routed_record(topics.BATCH_STANDARD, each, span)
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    assert producer.flush(PATIENCE_S) == 0


def test_a_deadline_and_a_cancelling_do_not_wait_for_their_turn(stack: Stack) -> None:
    settings = settings_of(stack.addresses)
    send(settings, [routed(f"patient-{number}", 3600) for number in range(WAITING)])
    short = [f"short-{number}" for number in range(20)]
    send(settings, [*(routed(id, 3) for id in short), routed("unwanted", 3600)])
    producer = Producer(settings.kafka_client({}))
    producer.produce(topics.CONTROL, b'{"cancel": {"tenant": "acme", "id": "unwanted"}}')
    assert producer.flush(PATIENCE_S) == 0

    consumer = Consumer(
        settings.kafka_client(
            {"group.id": "test", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        )
    )
    consumer.subscribe([topics.RESULTS])
    found: dict[str, result_pb2.Status] = {}
    until = time.monotonic() + PATIENCE_S
    try:
        while len(found) < len(short) + 1:
            assert time.monotonic() < until, f"only {sorted(found)} have a result"
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                result = result_pb2.Result.FromString(message.value() or b"")
                found[result.id] = result.status
    finally:
        consumer.close()
    assert found == {**dict.fromkeys(short, result_pb2.STATUS_EXPIRED), "unwanted": result_pb2.STATUS_CANCELLED}
    ahead = metrics_page.read([f"{stack.addresses.http['batcher']}/metrics"]).total(
        "millpond_records_taken_ahead_total"
    )
    assert ahead > 0
