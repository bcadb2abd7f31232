"""What waits unread ends when its deadline comes or it is cancelled, and does not wait behind another's flood; and a
model that comes back is not killed for ever by one of them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli import metrics_page
from millpond_cli.here import settings_of
from millpond_cli.stack import Stack, free_port_base
from millpond_cli.topic_reader import everything_on
from millpond_core import topics
from millpond_core.dead_letter import PREFIX
from millpond_core.envelope import routed_record
from millpond_core.errors import Code
from millpond_core.processor import header
from millpond_core.processor.confluent_reader import record_of
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing

HOME = Path(os.environ.get("MILLPOND_HOME") or Path(__file__).resolve().parents[2] / ".millpond")

PATIENCE_S = 180.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

WAITING = 5000
"""More than the batcher has in hand of all partitions together."""

POISON = "hemlock"
"""What the model dies of."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    only = {"kafka", "topics", "triton", "batcher"}
    run = tmp_path_factory.mktemp("waiting")
    environment = {"MILLPOND_ECHO_POISON": POISON}
    with Stack(HOME, free_port_base(), only=only, model="echo", environment=environment, run=run) as stack:
        # The batcher is ready once it has seen its model; from here on that is away.
        stack.halt("triton")
        yield stack


def routed(id: str, due_s: float, tenant: str = "acme", batch: str = "") -> envelope_pb2.Routed:
    made = envelope_pb2.Routed(
        request=request_pb2.Request(
            id=id,
            tenant=tenant,
            metadata={"batch": batch} if batch else {},
            messages=[request_pb2.Message(role="user", content=f"What is {id}?")],
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


def say(settings: Settings, word: bytes) -> None:
    producer = Producer(settings.kafka_client({}))
    producer.produce(topics.CONTROL, word, b"acme")
    assert producer.flush(PATIENCE_S) == 0


def taken_ahead(stack: Stack) -> float:
    pages = [f"{stack.addresses.http['batcher']}/metrics"]
    return metrics_page.read(pages).total("millpond_records_taken_ahead_total")


def results_until(settings: Settings, ids: set[str]) -> dict[str, result_pb2.Status]:
    """All results from the beginning, in the order in which they were written, until these are among them."""
    consumer = Consumer(
        settings.kafka_client(
            {"group.id": uuid.uuid4().hex, "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        )
    )
    consumer.subscribe([topics.RESULTS])
    found: dict[str, tuple[int, result_pb2.Status]] = {}
    until = time.monotonic() + PATIENCE_S
    try:
        while missing := ids - set(found):
            assert time.monotonic() < until, f"{sorted(missing)} have no result"
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                result = result_pb2.Result.FromString(message.value() or b"")
                found[result.id] = (message.timestamp()[1], result.status)
    finally:
        consumer.close()
    # Partitions are read one after the other.
    return {id: status for id, (_, status) in sorted(found.items(), key=lambda each: each[1])}


def test_a_deadline_and_a_cancelling_do_not_wait_for_their_turn(stack: Stack) -> None:
    settings = settings_of(stack.addresses)
    send(settings, [routed(f"patient-{number}", 3600) for number in range(WAITING)])
    short = [f"short-{number}" for number in range(20)]
    march = [f"march-{number}" for number in range(5)]
    send(settings, [*(routed(id, 3) for id in short), routed("unwanted", 3600)])
    send(settings, [routed(id, 3600, batch="march") for id in march])
    say(settings, b'{"cancel": {"tenant": "acme", "id": "unwanted"}}')
    say(settings, b'{"cancel_batch": {"tenant": "acme", "name": "march"}}')
    found = results_until(settings, {*short, *march, "unwanted"})
    cancelled = dict.fromkeys([*march, "unwanted"], result_pb2.STATUS_CANCELLED)
    assert found == {**dict.fromkeys(short, result_pb2.STATUS_EXPIRED), **cancelled}
    assert taken_ahead(stack) > 0


def test_a_request_behind_another_tenants_flood_or_a_batch_that_is_held_is_answered_among_the_first(
    stack: Stack,
) -> None:
    settings = settings_of(stack.addresses)
    say(settings, b'{"hold_batch": {"tenant": "acme", "name": "may"}}')
    before = taken_ahead(stack)
    send(settings, [routed(f"may-{number}", 3600, batch="may") for number in range(WAITING)])
    send(settings, [routed("quiet", 3600, tenant="globex")])
    until = time.monotonic() + PATIENCE_S
    while taken_ahead(stack) <= before:
        assert time.monotonic() < until, "nothing is taken ahead"
        time.sleep(0.2)
    stack.restart("triton")
    patient = {f"patient-{number}" for number in range(WAITING)}
    order = list(results_until(settings, {"quiet", *patient}))
    answered = [id for id in order if id == "quiet" or id in patient]
    assert answered.index("quiet") < WAITING // 2
    assert not any(id.startswith("may-") for id in order)
    say(settings, b'{"resume_batch": {"tenant": "acme", "name": "may"}}')
    found = results_until(settings, {f"may-{number}" for number in range(WAITING)})
    assert set(found.values()) <= {result_pb2.STATUS_OK, result_pb2.STATUS_EXPIRED, result_pb2.STATUS_CANCELLED}


def test_a_request_that_kills_the_model_is_found_and_its_neighbours_are_answered(stack: Stack) -> None:
    settings = settings_of(stack.addresses)
    stack.halt("triton")
    neighbours = [f"neighbour-{number}" for number in range(7)]
    send(settings, [routed(id, 3600, tenant="initech") for id in [*neighbours, POISON]])
    stack.restart("triton")
    found = results_until(settings, {*neighbours, POISON})
    assert {id: found[id] for id in neighbours} == dict.fromkeys(neighbours, result_pb2.STATUS_OK)
    assert found[POISON] == result_pb2.STATUS_ERROR
    letters = [letter for each in everything_on(settings, topics.DEADLETTER) if (letter := record_of(each))]
    assert [header(letter.headers, f"{PREFIX}reason") for letter in letters] == [Code.POISON.encode()]
