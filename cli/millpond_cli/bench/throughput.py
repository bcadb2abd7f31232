"""How many records a second pass from one topic to another, while something moves them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millpond_cli.client import ANSWER_S
from millpond_cli.errors import CommandError
from millpond_core.settings import Settings

PATIENCE_S = 120.0
"""For the last record to arrive."""


class Passage:
    """From `source` to `target`, which is empty and which nobody else writes."""

    def __init__(self, settings: Settings, source: str, target: str) -> None:
        self._producer = Producer(
            settings.kafka_client({"partitioner": "murmur2_random", "linger.ms": 5, "log_level": 0})
        )
        # Counting is to cost the broker little: what arrives is read as it comes, and nobody asks how much there is.
        self._consumer = Consumer(
            settings.kafka_client({"group.id": "millpond-bench", "enable.auto.commit": False, "log_level": 0})
        )
        self._source, self._target = source, target
        topic = self._consumer.list_topics(target, ANSWER_S).topics[target]
        self._consumer.assign([TopicPartition(target, number, OFFSET_BEGINNING) for number in topic.partitions])

    def rate(self, values: Sequence[bytes]) -> float:
        """Records a second, from the first that is sent to the last that arrives. Raises CommandError."""
        began = time.monotonic()
        for number, value in enumerate(values):
            self._producer.produce(self._source, value, f"default/bench-{began}-{number}".encode())
            self._producer.poll(0)
        self._producer.flush(ANSWER_S)
        arrived = 0
        while arrived < len(values):
            if time.monotonic() - began > PATIENCE_S:
                raise CommandError(
                    f"{arrived} of {len(values)} records came to {self._target} in {PATIENCE_S:.0f} s", 1
                )
            message = self._consumer.poll(1)
            arrived += message is not None and message.error() is None
        return len(values) / (time.monotonic() - began)

    def close(self) -> None:
        self._consumer.close()


def make_topics(settings: Settings, *names: str) -> None:
    admin = AdminClient(settings.kafka_client({}))
    made = admin.create_topics([NewTopic(name, settings.partitions, 1) for name in names])
    for future in made.values():
        future.result(ANSWER_S)
