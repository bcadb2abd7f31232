"""One face for a Kafka in memory and a real one, so that a contract test runs on both."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millpond_core.clock import SystemClock
from millpond_core.processor import Broker, Outgoing, Partition, Polled, Record
from millpond_core.processor.confluent_broker import ConfluentBroker
from millpond_core.processor.memory_broker import MemoryBroker, MemoryCluster

PATIENCE = 3000
"""Polls of 20 ms after which something that must happen is held to have failed: a minute."""

_numbers = itertools.count()


def fresh(word: str) -> str:
    """A name that no other test has."""
    return f"{word}-{os.getpid()}-{next(_numbers)}"


class Cluster(Protocol):
    def topic(self, partitions: int) -> str: ...
    def append(self, outgoing: Outgoing) -> None: ...
    def member(self, group: str, replica: int, topics: Sequence[str]) -> Broker: ...
    def records(self, topic: str) -> list[Record]:
        """All that a read_committed reader sees, partition by partition."""
        ...

    def close(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.cluster = MemoryCluster({}, SystemClock())

    def topic(self, partitions: int) -> str:
        name = fresh("topic")
        self.cluster.partitions[name] = partitions
        return name

    def append(self, outgoing: Outgoing) -> None:
        self.cluster.append(outgoing)

    def member(self, group: str, replica: int, topics: Sequence[str]) -> MemoryBroker:
        return self.cluster.member(group, replica, topics)

    def records(self, topic: str) -> list[Record]:
        return self.cluster.records(topic)

    def close(self) -> None: ...


class RealKafka:
    def __init__(self, bootstrap: str) -> None:
        self.client = {"bootstrap.servers": bootstrap}
        self._partitions: dict[str, int] = {}
        self._reader: ConfluentBroker | None = None
        self._admin = AdminClient({**self.client})
        self._producer = Producer({**self.client, "partitioner": "murmur2_random"})

    def topic(self, partitions: int) -> str:
        name = fresh("topic")
        self._admin.create_topics([NewTopic(name, partitions, 1)])[name].result()
        self.know(name, partitions)
        return name

    def know(self, topic: str, partitions: int) -> None:
        """A topic that somebody else made."""
        self._partitions[topic] = partitions

    def append(self, outgoing: Outgoing) -> None:
        place = -1 if outgoing.partition is None else outgoing.partition
        self._producer.produce(
            outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers), partition=place
        )
        self._producer.flush()

    def member(self, group: str, replica: int, topics: Sequence[str]) -> ConfluentBroker:
        return ConfluentBroker(self.client, group, replica, topics)

    def records(self, topic: str) -> list[Record]:
        # Never polled: it joins no group, and only reads what it is asked for.
        self._reader = self._reader or self.member(fresh("reader"), 0, [topic])
        return [
            record
            for number in range(self._partitions[topic])
            for records, _ in self._reader.read(Partition(topic, number), 0)
            for record in records
        ]

    def close(self) -> None:
        if self._reader:
            self._reader.close()


def polls(
    brokers: Sequence[Broker], until: Callable[[list[list[Polled]]], bool], patience: int = PATIENCE
) -> list[list[Polled]]:
    """Poll all in turn until the condition holds for what each has seen so far."""
    seen: list[list[Polled]] = [[] for _ in brokers]
    for _ in range(patience):
        for broker, polled in zip(brokers, seen, strict=True):
            polled.append(broker.poll(100, 0.02))
        if until(seen):
            return seen
    raise AssertionError("it never came")


def records_of(polled: Sequence[Polled]) -> list[Record]:
    return [record for each in polled for record in each.records]


def held(polled: Sequence[Polled]) -> set[Partition]:
    """What a member has after these polls."""
    owned: set[Partition] = set()
    for each in polled:
        owned -= set(each.revoked)
        owned |= {position.partition for position in each.assigned}
    return owned
