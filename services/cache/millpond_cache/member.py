"""A member of a consumer group of the cache's own, beside the stage's: for work that follows an answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from confluent_kafka import Consumer, Message

from millpond_core.processor.confluent_broker import SESSION_MS
from millpond_core.processor.confluent_reader import record_of
from millpond_core.settings import Settings


def member(settings: Settings, group: str, prefetch_kb: int, logger: logging.Logger) -> Consumer:
    """Commits by hand. Members are static: one that was killed has its partitions again at once, and another soon."""
    return Consumer(
        settings.kafka_client(
            {
                "group.id": group,
                "group.instance.id": f"{group}-{settings.replica}",
                "session.timeout.ms": SESSION_MS,
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": prefetch_kb,
            }
        ),
        logger=logger,
    )


def records_in(messages: Sequence[Message]) -> list[Message]:
    """Those that are records. Raises Fenced where another process has this member's place: no more would come."""
    return [message for message in messages if record_of(message) is not None]
