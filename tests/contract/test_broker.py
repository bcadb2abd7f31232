"""What every broker promises, in memory and on real Kafka."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from cluster import PATIENCE, Cluster, InMemory, RealKafka, fresh, held, polls, records_of
from millpond_cli.setup.home import home
from millpond_cli.stack import Stack, free_port_base
from millpond_core.processor import Aborted, Broker, Fenced, Outgoing, Partition, Position, Record, Unreachable

BOUND_S = 60.0
"""Until something that must come is missed."""


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = InMemory() if request.param == "memory" else RealKafka(request.getfixturevalue("kafka"))
    yield cluster
    cluster.close()


def test_a_record_comes_as_it_was_sent(cluster: Cluster) -> None:
    topic = cluster.topic(2)
    sent = Outgoing(topic, b"key", b"\x00value", (("a", b"1"), ("b", b"\xff")), partition=1)
    cluster.append(sent)
    broker = cluster.member(fresh("group"), 0, [topic])
    (polled,) = polls([broker], lambda seen: bool(records_of(seen[0])))
    (record,) = records_of(polled)
    assert (record.key, record.value, record.headers) == (sent.key, sent.value, sent.headers)
    assert (record.partition, record.offset) == (Partition(topic, 1), 0)
    assert record.timestamp_ms > 1_700_000_000_000
    broker.close()


def test_what_is_committed_is_seen_and_gone_on_from(cluster: Cluster) -> None:
    source, target, group = cluster.topic(1), cluster.topic(1), fresh("group")
    for number in range(3):
        cluster.append(Outgoing(source, b"k", str(number).encode()))
    broker = cluster.member(group, 0, [source])
    polls([broker], lambda seen: len(records_of(seen[0])) == 3)
    place = Partition(source, 0)
    written = broker.commit([Outgoing(target, b"k", b"out", partition=0)], [Position(place, 1, "1+1")])
    assert written == {Partition(target, 0): 0}
    broker.close()
    assert [record.value for record in cluster.records(target)] == [b"out"]

    again = cluster.member(group, 0, [source])
    (polled,) = polls([again], lambda seen: len(records_of(seen[0])) == 2)
    assert [position for each in polled for position in each.assigned] == [Position(place, 1, "1+1")]
    assert [record.offset for record in records_of(polled)] == [1, 2]
    again.close()


def test_the_longest_metadata_comes_back(cluster: Cluster) -> None:
    source, group = cluster.topic(1), fresh("group")
    broker = cluster.member(group, 0, [source])
    polls([broker], lambda seen: len(held(seen[0])) == 1)
    longest = ",".join(["1+1"] * 1024)
    assert len(longest) == 4095
    broker.commit([], [Position(Partition(source, 0), 0, longest)])
    broker.close()
    again = cluster.member(group, 0, [source])
    (polled,) = polls([again], lambda seen: len(held(seen[0])) == 1)
    assert [position.metadata for each in polled for position in each.assigned] == [longest]
    again.close()


def test_a_second_member_gets_its_share_after_the_first_gave_it_up(cluster: Cluster) -> None:
    source, group = cluster.topic(4), fresh("group")
    first = cluster.member(group, 0, [source])
    polls([first], lambda seen: len(held(seen[0])) == 4)
    second = cluster.member(group, 1, [source])
    mine, other = polls([first, second], lambda seen: len(held(seen[1])) == 2)
    given_up = {partition for each in mine for partition in each.revoked}
    assert held(other) == given_up
    first.close()
    second.close()


def test_a_member_that_takes_a_place_fences_who_had_it(cluster: Cluster) -> None:
    source, target, group = cluster.topic(1), cluster.topic(1), fresh("group")
    before = cluster.member(group, 0, [source])
    polls([before], lambda seen: len(held(seen[0])) == 1)
    after = cluster.member(group, 0, [source])
    with pytest.raises((Fenced, Aborted)):
        before.commit([Outgoing(target, b"k", b"late")], [Position(Partition(source, 0), 1, "")])
    polls([after], lambda seen: len(held(seen[0])) == 1)
    after.commit([Outgoing(target, b"k", b"mine")], [Position(Partition(source, 0), 1, "")])
    assert [record.value for record in cluster.records(target)] == [b"mine"]
    after.close()


def test_a_paused_partition_gives_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    source = cluster.topic(2)
    broker = cluster.member(fresh("group"), 0, [source])
    polls([broker], lambda seen: len(held(seen[0])) == 2)
    broker.pause([Partition(source, 0)])
    for number in range(2):
        cluster.append(Outgoing(source, b"k", b"v", partition=number))
    (polled,) = polls([broker], lambda seen: bool(records_of(seen[0])))
    assert {record.partition.number for record in records_of(polled)} == {1}
    broker.resume([Partition(source, 0)])
    (polled,) = polls([broker], lambda seen: bool(records_of(seen[0])))
    assert {record.partition.number for record in records_of(polled)} == {0}
    broker.close()


def test_a_partition_that_was_lost_while_paused_is_read_when_it_is_won_again(cluster: Cluster) -> None:
    source, group = cluster.topic(2), fresh("group")
    first = cluster.member(group, 0, [source])
    polls([first], lambda seen: len(held(seen[0])) == 2)
    first.pause([Partition(source, 0), Partition(source, 1)])
    second = cluster.member(group, 1, [source])
    polls([first, second], lambda seen: len(held(seen[1])) == 1)
    second.close()
    (polled,) = polls([first], lambda seen: bool(held(seen[0])))
    (again,) = held(polled)
    cluster.append(Outgoing(source, b"k", b"v", partition=again.number))
    (polled,) = polls([first], lambda seen: bool(records_of(seen[0])))
    assert {record.partition for record in records_of(polled)} == {again}
    first.close()


def test_reading_gives_all_that_was_committed_and_where_it_ends(cluster: Cluster) -> None:
    source, log, group = cluster.topic(1), cluster.topic(1), fresh("group")
    broker = cluster.member(group, 0, [source])
    polls([broker], lambda seen: len(held(seen[0])) == 1)
    place = Partition(log, 0)
    for number in range(3):
        broker.commit([Outgoing(log, b"%d" % number, b"v", partition=0)], [Position(Partition(source, 0), 0, "")])
    chunks = list(broker.read(place, 0))
    assert [record.key for records, _ in chunks for record in records] == [b"0", b"1", b"2"]
    end = chunks[-1][1]
    assert [record for records, _ in broker.read(place, end) for record in records] == []
    assert [record.key for records, _ in broker.read(place, end + 50) for record in records] == [b"0", b"1", b"2"]
    broker.close()


def test_a_reader_follows_what_comes_and_fetches_what_is_asked_for(cluster: Cluster) -> None:
    topic = cluster.topic(2)
    for number in range(1000):
        cluster.append(Outgoing(topic, b"%d" % number, b"v", partition=number % 2))
    broker = cluster.member(fresh("group"), 0, [topic])
    reader = broker.reader()
    place = Partition(topic, 1)
    reader.follow(place, 400)
    found: list[Record] = []
    while len(found) < 100:
        found += reader.poll(50, 1)
    assert [(each.partition, each.offset) for each in found] == [(place, offset) for offset in range(400, 500)]
    cluster.append(Outgoing(topic, b"late", b"v", partition=1))
    while len(found) < 101:
        found += reader.poll(50, 1)
    assert found[-1].key == b"late"
    reader.leave(place)
    wanted = [0, 1, 7, 300, 301, 499]
    assert [each.offset for each in reader.fetch(place, wanted)] == wanted
    assert [each.offset for each in reader.fetch(place, [3, 100_000])] == [3]
    reader.close()
    broker.close()


def test_a_reader_sees_nothing_of_a_transaction_that_was_not_committed(kafka: str) -> None:
    cluster = RealKafka(kafka)
    topic = cluster.topic(1)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": fresh("open")})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, b"never")
    producer.flush()
    producer.abort_transaction()
    cluster.append(Outgoing(topic, b"k", b"seen"))
    broker = cluster.member(fresh("group"), 0, [topic])
    reader = broker.reader()
    reader.follow(Partition(topic, 0), 0)
    found: list[Record] = []
    while not found:
        found += reader.poll(50, 1)
    assert [each.value for each in (*found, *reader.fetch(Partition(topic, 0), [0, found[0].offset]))] == [b"seen"] * 2
    reader.close()
    broker.close()
    cluster.close()


DIES_BEFORE_ITS_COMMIT = """
import os, signal, sys
from millpond_core.processor import Outgoing, Partition, Position
from millpond_core.processor.confluent_broker import ConfluentBroker

class Dies(ConfluentBroker):
    def _end_transaction(self, *, commit):
        assert self._producer.flush(30) == 0
        os.kill(os.getpid(), signal.SIGKILL)

bootstrap, group, source, target = sys.argv[1:]
broker = Dies({"bootstrap.servers": bootstrap}, group, 0, [source])
while not broker.poll(1, 0.1).assigned:
    pass
broker.commit([Outgoing(target, b"key", b"left open")], [Position(Partition(source, 0), 0, "")])
"""


READERS_PATIENCE = PATIENCE // 2
"""Far above what it takes here, and half of what Kafka's own default would take."""


def test_who_dies_in_mid_transaction_does_not_hold_up_readers(kafka: str) -> None:
    """Nobody takes the dead one's place here: the broker itself ends what it left open, and not after a minute, as it
    would by Kafka's default."""
    cluster = RealKafka(kafka)
    source, target = cluster.topic(1), cluster.topic(1)
    arguments = (kafka, fresh("group"), source, target)
    died = subprocess.run([sys.executable, "-c", DIES_BEFORE_ITS_COMMIT, *arguments], timeout=BOUND_S, check=False)
    assert died.returncode == -signal.SIGKILL
    cluster.append(Outgoing(target, b"key", b"behind it", partition=0))
    reader = cluster.member(fresh("group"), 0, [target])
    found = polls([reader], lambda seen: bool(records_of(seen[0])), READERS_PATIENCE)
    assert [record.value for record in records_of(found[0])] == [b"behind it"]
    reader.close()
    cluster.close()


def test_a_replica_goes_on_where_kafka_was_started_again(tmp_path: Path) -> None:
    """With each start a partition's leader has another epoch, and a client that knows the last one is refused; a
    producer whose connection was lost would wait for ever in its next transaction."""
    with Stack(home().root, free_port_base(), only={"kafka"}, run=tmp_path) as stack:
        cluster = RealKafka(stack.addresses.kafka)
        source, target, group = cluster.topic(1), cluster.topic(1), fresh("group")
        broker = cluster.member(group, 0, [source])
        polls([broker], lambda seen: len(held(seen[0])) == 1)

        def commit(value: bytes) -> None:
            """Tried again as a processor would, and by its next process where Kafka holds this one for a stranger."""
            nonlocal broker
            until = time.monotonic() + BOUND_S
            while time.monotonic() < until:
                try:
                    broker.poll(1, 0.1)
                    broker.commit([Outgoing(target, b"key", value)], [Position(Partition(source, 0), 0, "")])
                except Aborted:
                    continue
                except Fenced:
                    broker = cluster.member(group, 0, [source])
                else:
                    return

        commit(b"before")
        assert values_read(broker, target) == [b"before"]
        stack.kill("kafka")
        stack.wait_ready("kafka")
        assert values_read(broker, target) == [b"before"]
        after = threading.Thread(target=commit, args=(b"after",), daemon=True)
        after.start()
        after.join(BOUND_S)
        assert not after.is_alive(), "the transaction never ends"
        assert values_read(broker, target) == [b"before", b"after"]
        broker.close()


def values_read(broker: Broker, topic: str) -> list[bytes | None]:
    """All of partition 0, asked for as the claims are: again, while Kafka does not answer."""
    until = time.monotonic() + BOUND_S
    while True:
        try:
            return [record.value for records, _ in broker.read(Partition(topic, 0), 0) for record in records]
        except Unreachable:
            assert time.monotonic() < until, "Kafka is back, and never answers"


def test_keys_go_where_every_other_producer_of_millpond_sends_them(kafka: str) -> None:
    """murmur2, as Faust and Java have it: librdkafka's default would send copies of an id elsewhere."""
    from aiokafka.partitioner import murmur2

    cluster = RealKafka(kafka)
    source, target = cluster.topic(1), cluster.topic(7)
    broker = cluster.member(fresh("group"), 0, [source])
    polls([broker], lambda seen: len(held(seen[0])) == 1)
    keys = [b"tenant/%d" % number for number in range(100)]
    broker.commit([Outgoing(target, key, b"v") for key in keys], [Position(Partition(source, 0), 0, "")])
    landed = {record.key: record.partition.number for record in cluster.records(target)}
    assert landed == {key: (murmur2(key) & 0x7FFFFFFF) % 7 for key in keys}
    broker.close()
    cluster.close()
