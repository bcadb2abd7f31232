"""Reads ai.audit, where the models' answers to sampled hits are, and says on ai.feedback which hits were wrong.

At least once: a judgement may be said twice, which counts for two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaException, Message
from google.protobuf.message import DecodeError

from millpond.v1 import audit_pb2, feedback_pb2, result_pb2
from millpond_cache.member import member, records_in
from millpond_cache.sample import says_the_same
from millpond_core import metrics, topics
from millpond_core.embedder import Embedder
from millpond_core.embedding import cosine
from millpond_core.errors import EngineError
from millpond_core.settings import Settings

logger = logging.getLogger(__name__)

GROUP = "millpond-cache-judge"

TAKEN = 20
"""Records in one round."""

PATIENCE_S = 1.0
"""Seconds that a round waits for its first record: nobody waits for a judgement."""

EMBED_S = 10.0
"""Seconds that the embedder has for two answers; it may be starting."""

SOURCE = "sample"
"""Of the judgements that are made here."""

Say = Callable[[feedback_pb2.Feedback], Awaitable[object]]
"""Puts a judgement on ai.feedback."""


def judging_consumer(settings: Settings) -> Consumer:
    return member(settings, GROUP, 1024, logger)


class Judge:
    """consumer: closed at the end. All its calls come from one thread."""

    def __init__(self, consumer: Consumer, embedder: Embedder, say: Say) -> None:
        self._consumer = consumer
        self._embedder = embedder
        self._say = say
        self._thread = ThreadPoolExecutor(1, "judge")

    async def run(self) -> None:
        """For ever. Raises Fenced."""
        loop = asyncio.get_running_loop()
        self._consumer.subscribe([topics.AUDIT])
        try:
            while True:
                taken = await loop.run_in_executor(self._thread, self._consumer.consume, TAKEN, PATIENCE_S)
                records = records_in(taken)
                for record in records:
                    await self._judge(record)
                if records:
                    await loop.run_in_executor(self._thread, self._commit)
        finally:
            # Behind the call that may still run.
            await loop.run_in_executor(self._thread, self._consumer.close)

    async def _judge(self, record: Message) -> None:
        try:
            audit = audit_pb2.Audit.FromString(bytes(record.value() or b""))
        except DecodeError as failure:
            logger.warning("a record of %s is passed over: %s", topics.AUDIT, failure)
            return
        if audit.result.status != result_pb2.STATUS_OK:
            metrics.CACHE_SAMPLES.labels("unanswered").inc()
            return
        given, fresh = audit.sample.given.text, audit.result.output.text
        try:
            good = says_the_same(given, fresh, cosine(*await self._embedder.embed([given, fresh], EMBED_S)))
        except EngineError:
            # The embedder's client counts it too.
            metrics.CACHE_SAMPLES.labels("unjudged").inc()
            return
        metrics.CACHE_SAMPLES.labels("right" if good else "wrong").inc()
        await self._say(
            feedback_pb2.Feedback(
                id=audit.sample.asked_id,
                tenant=audit.result.tenant,
                good=float(good),
                source=SOURCE,
                cache=feedback_pb2.CacheGiven(source_id=audit.sample.source_id, cluster=audit.sample.cluster),
            )
        )

    def _commit(self) -> None:
        """A commit that fails is made up for by a later one, or the samples are judged again."""
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as failure:
            logger.warning("not committed on %s: %s", topics.AUDIT, failure.args[0].str())
