"""The topics, declared once: who writes each, who reads it, and how it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from millpond_core.processor.record import LARGEST_RECORD_BYTES

REQUESTS = "ai.requests"
ROUTED = "ai.routed"
BATCH_REALTIME = "ai.batch.realtime"
BATCH_STANDARD = "ai.batch.standard"
BATCH_OVERNIGHT = "ai.batch.overnight"
FRONTIER = "ai.frontier"
RESULTS = "ai.results"
LEARN = "ai.learn"
CLAIMS = "ai.claims"
FEEDBACK = "ai.feedback"
AUDIT = "ai.audit"
DEADLETTER = "ai.deadletter"
CONTROL = "ai.control"

ENVELOPES = (ROUTED, BATCH_REALTIME, BATCH_STANDARD, BATCH_OVERNIGHT, FRONTIER)
"""Topics whose records are requests on their way (`Routed`)."""

LARGEST = "max.message.bytes"
"""Kafka's name for the largest record that a topic takes."""

DAY_MS = 24 * 3600 * 1000

CLAIM_RETENTION_MS = 7 * DAY_MS
"""Longer than ai.requests is kept plus the longest deadline, so that no copy of a request outlives its claim."""


@dataclass(frozen=True)
class Topic:
    """writers and readers are service names, "producer" or "consumer"; config is Kafka's own, beside what all have."""

    name: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    retention_ms: int = DAY_MS * 2
    config: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def settings(self) -> dict[str, str]:
        """All that is asked of Kafka for it."""
        common = {"retention.ms": str(self.retention_ms), LARGEST: str(LARGEST_RECORD_BYTES)}
        return {**common, **self.config}


TOPICS = (
    # Deadlines count from the broker's append time. What is too large still arrives, to be refused by name.
    Topic(
        REQUESTS,
        ("producer",),
        ("router",),
        config={"message.timestamp.type": "LogAppendTime"},
    ),
    Topic(ROUTED, ("router", "frontier"), ("cache",)),
    Topic(BATCH_REALTIME, ("cache",), ("batcher",)),
    Topic(BATCH_STANDARD, ("cache",), ("batcher",)),
    # Samples of the cache's hits among them, as on ai.frontier.
    Topic(BATCH_OVERNIGHT, ("cache",), ("batcher",)),
    Topic(FRONTIER, ("cache", "batcher"), ("frontier",)),
    Topic(RESULTS, ("cache", "batcher", "frontier"), ("consumer",), 7 * DAY_MS),
    # Each replica of the readers reads all of it, without a group: what was learned is made of it again at every start.
    Topic(FEEDBACK, ("producer", "cache"), ("router", "cache"), 30 * DAY_MS),
    Topic(AUDIT, ("batcher", "frontier"), ("cache", "consumer"), 7 * DAY_MS),
    Topic(LEARN, ("cache", "batcher", "frontier"), ("cache",)),
    Topic(CLAIMS, ("cache",), ("cache",), CLAIM_RETENTION_MS, {"cleanup.policy": "compact,delete"}),
    Topic(DEADLETTER, ("router", "cache", "batcher", "frontier"), ("consumer",), 30 * DAY_MS),
    # Each process reads it from its beginning: no longer than a request may wait. The cache passes on what it was told
    # over gRPC.
    Topic(CONTROL, ("producer", "cache"), ("cache", "batcher", "frontier")),
)


def bound_topics(names: Iterable[str]) -> tuple[Topic, ...]:
    """Topics whose requests belong to one tenant (`tenants_by_topic`): each is as ai.requests is."""
    (requests,) = (topic for topic in TOPICS if topic.name == REQUESTS)
    return tuple(replace(requests, name=name) for name in names if name != REQUESTS)


if __name__ == "__main__":
    from millpond_core.topic_admin import main

    raise SystemExit(main())
