"""The learner stays in its group while the store is away, and reads on in all that it has when the store is back.

On the Kafka that the client brings along for tests: brokers in this process, with consumer groups.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import Consumer, Producer

from cache_heads import heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.learner import Learner
from millpond_cache.lesson import Keeping
from millpond_cache.memory_store import MemoryStore
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.store import Lesson, StoreUnavailable
from millpond_core import topics
from millpond_core.clock import SystemClock

PATIENCE_S = 30
PARTITIONS = 4
"""Of every topic there."""

KEEPING = Keeping(3600, 0.7, 384, heads().cacheability)


class ShakyStore(MemoryStore):
    """A store that learns nothing until it is told to come back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = True
        self.refused = 0
        self.kept: set[str] = set()
        """Requests whose answers are here. An answer may come twice: a commit fails where the group changes."""

    async def learn(self, lessons: Sequence[Lesson]) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("away")
        await super().learn(lessons)
        self.kept |= {lesson.entry.source_id for lesson in lessons}


def member(kafka: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "learn",
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            # The brokers wait as long as a session for members to join again, and 3 s for the first ones.
            "heartbeat.interval.ms": 100,
            "session.timeout.ms": 4000,
            "auto.offset.reset": "earliest",
        }
    )


def learned(id: str) -> bytes:
    message = request_pb2.Message(role="user", content=f"How deep is {id}?")
    answer = envelope_pb2.Learned(
        request=request_pb2.Request(id=id, tenant="acme", messages=[message]),
        output=result_pb2.Output(text="Deep.", finish_reason="stop"),
        served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model="small"),
    )
    answer.answered_at.FromNanoseconds(time.time_ns())
    return answer.SerializeToString()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def learning(kafka: str, store: MemoryStore) -> AsyncGenerator[Consumer]:
    """Its consumer."""
    consumer = member(kafka)
    learner = Learner(consumer, store, Recent(1e6), Forgotten(), KEEPING, SystemClock())
    task = asyncio.create_task(learner.run())
    yield consumer
    task.cancel()
    await asyncio.wait([task])


async def test_a_partition_that_was_lost_while_the_store_was_away_is_read_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("millpond_cache.learner.AGAIN_S", 0.01)
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = producer.list_topics(topics.LEARN, timeout=PATIENCE_S).brokers.values()
    kafka = f"{broker.host}:{broker.port}"
    store = ShakyStore()
    async with learning(kafka, store) as consumer:
        await until(lambda: len(consumer.assignment()) == PARTITIONS)
        producer.produce(topics.LEARN, learned("first"), partition=0)
        await until(lambda: store.refused > 0)
        other = member(kafka)
        other.subscribe([topics.LEARN])

        def shared() -> bool:
            other.poll(0)
            return len(consumer.assignment()) == len(other.assignment()) == PARTITIONS / 2

        await until(shared)
        store.away = False
        await until(lambda: store.kept == {"first"})
        other.close()
        await until(lambda: len(consumer.assignment()) == PARTITIONS)
        for partition in range(PARTITIONS):
            producer.produce(topics.LEARN, learned(f"later {partition}"), partition=partition)
        await until(lambda: store.kept == {"first", *(f"later {partition}" for partition in range(PARTITIONS))})
