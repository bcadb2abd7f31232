"""Reads `ai.feedback` while the router runs: names a model that does not keep its promises, and where that is wanted
lets the promises follow what became of answers.

Each replica reads all of the topic from its beginning, in no group: what is learned is made of the topic alone, so that
all replicas, and a router that starts again, come to the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from millpond.v1 import feedback_pb2
from millpond_core import metrics, topics
from millpond_core.codec import CONTENT_TYPE, decode_feedback
from millpond_core.errors import Malformed
from millpond_core.processor import Headers, header
from millpond_core.settings import Settings
from millpond_router.brain import Brain
from millpond_router.outcomes import Outcomes, WrongFeedback

logger = logging.getLogger(__name__)

POLL_S = 1.0
TAKEN = 1000
"""Records of one look."""

Said = tuple[feedback_pb2.Feedback, float]
"""A judgement, and when it was written: seconds since 1970."""

MOST = 100_000
"""Judgements that are kept for heads that come later: some 20 MB."""


async def learn(settings: Settings, brain: Brain, *, teach: bool) -> None:
    """Until cancelled. teach: whether promises follow. What cannot be read is counted and passed over."""
    consumer = Consumer(
        settings.kafka_client(
            {
                "group.id": f"millpond-router-feedback-{settings.replica}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
    )
    consumer.assign([TopicPartition(topics.FEEDBACK, partition, 0) for partition in range(settings.partitions)])
    outcomes: Outcomes | None = None
    heads = ""
    alarmed: set[str] = set()
    kept: list[Said] = []
    try:
        while True:
            records = await asyncio.to_thread(consumer.consume, TAKEN, POLL_S)
            fresh = [each for each in map(_feedback, records) if each is not None]
            kept.extend(fresh)
            version = brain.heads.version if brain.heads else ""
            if version != heads or outcomes is None:
                # Other heads: of what was read, what is about them counts.
                heads, outcomes, fresh = version, Outcomes(version), kept
            if _add(outcomes, fresh):
                if teach:
                    brain.teach(outcomes.learned())
                _say_drift(outcomes, alarmed)
            del kept[:-MOST]
    finally:
        consumer.close()


def _feedback(record: Message) -> Said | None:
    failure = record.error()
    if failure is not None:
        if failure.code() != KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
            logger.warning("%s: %s", topics.FEEDBACK, failure.str())
        return None
    headers: Headers = tuple(record.headers() or ())  # pyright: ignore[reportAssignmentType]
    try:
        _, at_ms = record.timestamp()
        return decode_feedback(record.value(), header(headers, CONTENT_TYPE)), at_ms / 1000
    except Malformed as wrong:
        metrics.FEEDBACK.labels("malformed").inc()
        logger.warning("a record of %s is passed over: %s", topics.FEEDBACK, wrong)
        return None


def _add(outcomes: Outcomes, found: Sequence[Said]) -> bool:
    """Whether any of it counts."""
    counts = False
    for each, at_s in found:
        try:
            known = outcomes.add(each, at_s)
        except WrongFeedback as wrong:
            metrics.FEEDBACK.labels("malformed").inc()
            logger.warning("a judgement of %s/%s is passed over: %s", each.tenant, each.id, wrong)
            continue
        metrics.FEEDBACK.labels("learned" if known else "other_heads").inc()
        counts = counts or known
    return counts


def _say_drift(outcomes: Outcomes, alarmed: set[str]) -> None:
    """alarmed: models that were named already; one that keeps its promises again is named at its next drift."""
    for model, promise in outcomes.report().items():
        metrics.PROMISE_DRIFT.labels(model).set(promise.drift or 0.0)
        if promise.is_alarming and model not in alarmed:
            alarmed.add(model)
            promised, observed = promise.recently
            logger.error(
                "%s answers %s than promised: %.2f of its last answers were good, %.2f were promised",
                *(model, "better" if (promise.drift or 0) > 0 else "worse", observed, promised),
            )
        elif not promise.is_alarming:
            alarmed.discard(model)
