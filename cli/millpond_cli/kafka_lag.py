"""How far consumer groups are behind: what `./millpond status` shows, and where a missing result may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,  # pyright: ignore[reportPrivateImportUsage]
    IsolationLevel,  # pyright: ignore[reportPrivateImportUsage]
    KafkaError,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from millpond_core.settings import Settings
from millpond_core.topics import ENVELOPES, REQUESTS

PREFIX = "millpond"
"""What the names of the services' groups begin with."""

NOBODY = "nobody"

ANSWER_S = 5.0
"""One question to Kafka; beyond it Kafka counts as away."""

MARKERS = 16
"""Records that may look waiting and be none: the marks that end transactions have offsets too. So few are read to be
counted; more are waiting for certain."""


Place = tuple[str, str, int]
"""Group, topic, partition."""


@dataclass(frozen=True)
class Lag:
    """records: those that the group has not committed yet, over all partitions of the topic.

    group: NOBODY for a topic between services that has records and was never read.
    """

    group: str
    topic: str
    records: int


def lags(settings: Settings) -> list[Lag]:
    """Of every group of the services and every topic that it reads, and of topics that nobody does.

    Raises KafkaException.
    """
    admin = AdminClient(settings.kafka_client({"log_level": 0}))
    listed = admin.list_consumer_groups(request_timeout=ANSWER_S).result()
    groups = sorted(group.group_id for group in listed.valid if group.group_id.startswith(PREFIX))
    committed = {group: _committed(admin, group) for group in groups}
    read = {each.topic for offsets in committed.values() for each in offsets}
    standing = admin.list_topics(timeout=ANSWER_S).topics
    committed[NOBODY] = [
        TopicPartition(name, partition, 0)
        for name in (REQUESTS, *ENVELOPES)
        if name not in read and name in standing
        for partition in standing[name].partitions
    ]
    ends = _ends(admin, [each for offsets in committed.values() for each in offsets])
    behind = {
        (group, at.topic, at.partition): (at, max(0, ends[at.topic, at.partition] - at.offset))
        for group, offsets in committed.items()
        for at in offsets
    }
    unsure = {key: at for key, (at, count) in behind.items() if 0 < count <= MARKERS}
    counted = {key: count for key, (_, count) in behind.items()} | _records(settings, unsure)
    found: Counter[tuple[str, str]] = Counter()
    for (group, topic, _), count in counted.items():
        found[group, topic] += count
    told = [Lag(group, topic, records) for (group, topic), records in sorted(found.items())]
    return [lag for lag in told if lag.group != NOBODY or lag.records]


def _committed(admin: AdminClient, group: str) -> Sequence[TopicPartition]:
    answers = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_S)
    return [each for each in answers[group].result().topic_partitions or () if each.offset >= 0]


def _ends(admin: AdminClient, places: Iterable[TopicPartition]) -> Mapping[tuple[str, int], int]:
    wanted = {TopicPartition(place.topic, place.partition): OffsetSpec.latest() for place in places}
    if not wanted:
        return {}
    answers: Mapping[TopicPartition, Any] = admin.list_offsets(
        wanted,  # pyright: ignore[reportArgumentType]
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=ANSWER_S,
    )
    return {(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}


def _records(settings: Settings, starts: Mapping[Place, TopicPartition]) -> dict[Place, int]:
    """How many of the offsets from each place on are records, not marks."""
    consumer = Consumer(
        settings.kafka_client(
            {
                "group.id": f"{PREFIX}-cli",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
    )
    counts = dict.fromkeys(starts, 0)
    try:
        # One group at a time: two of them may stand at different places of one partition.
        for group in {group for group, _, _ in starts}:
            left = {(at.topic, at.partition): key for key, at in starts.items() if key[0] == group}
            consumer.assign([TopicPartition(*place, starts[key].offset) for place, key in left.items()])
            while left and (message := consumer.poll(ANSWER_S)) is not None:
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if error is None and place in left:
                    counts[left[place]] += 1
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                    left.pop(place, None)
        return counts
    finally:
        consumer.close()
