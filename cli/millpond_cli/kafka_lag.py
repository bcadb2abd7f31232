"""How far consumer groups are behind: what `./millpond status` shows, and where a missing result may be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
    places = {(each.topic, each.partition) for offsets in committed.values() for each in offsets}
    ends = _ends(admin, [TopicPartition(topic, partition) for topic, partition in sorted(places)])
    found: dict[tuple[str, str], int] = defaultdict(int)
    for group, offsets in committed.items():
        for at in offsets:
            behind = ends[at.topic, at.partition] - at.offset
            found[group, at.topic] += behind if behind > MARKERS else _records(settings, at, behind)
    counted = [Lag(group, topic, records) for (group, topic), records in sorted(found.items())]
    return [lag for lag in counted if lag.group != NOBODY or lag.records]


def _committed(admin: AdminClient, group: str) -> Sequence[TopicPartition]:
    answers = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_S)
    return [each for each in answers[group].result().topic_partitions or () if each.offset >= 0]


def _ends(admin: AdminClient, partitions: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    if not partitions:
        return {}
    answers: dict[TopicPartition, Any] = admin.list_offsets(
        {partition: OffsetSpec.latest() for partition in partitions},  # pyright: ignore[reportArgumentType]
        isolation_level=IsolationLevel.READ_COMMITTED,
        request_timeout=ANSWER_S,
    )
    return {(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}


def _records(settings: Settings, start: TopicPartition, behind: int) -> int:
    """How many of the offsets from there on are records, not marks."""
    if behind <= 0:
        return 0
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
    try:
        consumer.assign([TopicPartition(start.topic, start.partition, start.offset)])
        count = 0
        while (message := consumer.poll(ANSWER_S)) is not None:
            if (error := message.error()) is None:
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                break
        return count
    finally:
        consumer.close()
