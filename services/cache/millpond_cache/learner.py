"""Reads ai.learn and keeps the answers. At least once: positions are committed after the store has them.

While the store is away the learner waits with what it holds, and the rest waits in Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from google.protobuf.message import DecodeError

from millpond.v1 import envelope_pb2
from millpond_cache.lesson import Keeping, lesson_of
from millpond_cache.member import member, records_in
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.store import Lesson, Store, StoreRefused, StoreUnavailable
from millpond_core import metrics, topics
from millpond_core.clock import Clock
from millpond_core.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "millpond-cache-learn"

TAKEN = 200
"""Records in one round, which are one call of the store."""

PATIENCE_S = 0.1
"""Seconds that a round waits for its first record; an answer is known that much later at most."""

STORE_S = 15.0
"""Seconds that the store has to keep one round."""

AGAIN_S = 1.0
"""Seconds until a store that was away is tried again; less than a consumer may be silent (5 minutes)."""


def learning_consumer(settings: Settings) -> Consumer:
    return member(settings, GROUP, 4096, logger)


class Learner:
    """consumer: closed at the end. All its calls come from one thread."""

    def __init__(  # noqa: PLR0917
        self,
        consumer: Consumer,
        store: Store,
        recent: Recent,
        forgotten: Forgotten,
        keeping: Keeping,
        clock: Clock,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._recent = recent
        self._forgotten = forgotten
        self._keeping = keeping
        self._clock = clock
        self._waiting = False
        self._thread = ThreadPoolExecutor(1, "learn")

    async def run(self) -> None:
        """For ever. Raises Fenced."""
        loop = asyncio.get_running_loop()
        self._consumer.subscribe([topics.LEARN], on_assign=self._on_assign)
        try:
            while True:
                taken = await loop.run_in_executor(self._thread, self._consumer.consume, TAKEN, PATIENCE_S)
                records = records_in(taken)
                if records:
                    await self._learn(records)
                    await loop.run_in_executor(self._thread, self._commit, records)
        finally:
            # Behind the call that may still run.
            await loop.run_in_executor(self._thread, self._consumer.close)

    async def _learn(self, records: Sequence[Message]) -> None:
        now = self._clock.now()
        # The last answer to one question counts.
        lessons = {lesson.entry.key: lesson for record in records if (lesson := self._lesson(record, now))}
        for lesson in lessons.values():
            self._recent.remember(lesson.entry, now)
        while not await self._kept(list(lessons.values())):
            await self._wait()
        metrics.CACHE_LEARNED.inc(len(lessons))
        if self._waiting:
            self._waiting = False
            self._consumer.resume(self._consumer.assignment())

    def _lesson(self, record: Message, now: float) -> Lesson | None:
        try:
            learned = envelope_pb2.Learned.FromString(bytes(record.value() or b""))
        except DecodeError as failure:
            place = f"{record.topic()}-{record.partition()} at {record.offset()}"
            logger.warning("a record of %s is no answer and is left out: %s", place, failure)
            return None
        lesson = lesson_of(learned, self._keeping, now)
        return None if lesson is None or self._forgotten.hides(lesson.entry) else lesson

    async def _kept(self, lessons: Sequence[Lesson]) -> bool:
        """Whether these are dealt with. What the store refuses is left out, not tried for ever."""
        if not lessons:
            return True
        try:
            async with asyncio.timeout(STORE_S):
                await self._store.learn(lessons)
        except (StoreUnavailable, TimeoutError) as failure:
            if not self._waiting:
                logger.warning("nothing is learned until the store answers: %s", failure or "no answer")
            return False
        except StoreRefused as failure:
            if len(lessons) > 1:
                return all([await self._kept([lesson]) for lesson in lessons])
            logger.warning("the store refuses the answer of %s: %s", lessons[0].entry.source_id, failure)
        return True

    async def _wait(self) -> None:
        """Stay in the group, without records."""
        if not self._waiting:
            self._waiting = True
            self._consumer.pause(self._consumer.assignment())
        await asyncio.sleep(AGAIN_S)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.poll, 0)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        if self._waiting:
            consumer.pause(partitions)
        else:
            # A partition that was lost while it was paused comes back paused.
            consumer.resume(partitions)

    def _commit(self, records: Sequence[Message]) -> None:
        """A commit that fails is made up for by a later one, or the records are learned again."""
        following = {(str(each.topic()), int(each.partition() or 0)): int(each.offset() or 0) + 1 for each in records}
        offsets = [TopicPartition(*place, offset) for place, offset in following.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failure:
            logger.warning("not committed on %s: %s", topics.LEARN, failure.args[0].str())
