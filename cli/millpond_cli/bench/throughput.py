"""How many records a second pass from one topic to another, while something moves them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millpond_cli.client import ANSWER_S
from millpond_cli.errors import CommandError
from millpond_core.settings import Settings

PATIENCE_S = 120.0
"""For the last record to arrive."""

LOOK_S = 0.02


class Passage:
    """From `source` to `target`, which nobody else writes."""

    def __init__(self, settings: Settings, source: str, target: str) -> None:
        self._producer = Producer(
            settings.kafka_client({"partitioner": "murmur2_random", "linger.ms": 5, "log_level": 0})
        )
        self._consumer = Consumer(settings.kafka_client({"group.id": "millpond-bench", "log_level": 0}))
        self._source, self._target = source, target

    def rate(self, values: Sequence[bytes]) -> float:
        """Records a second, from the first that is sent to the last that arrives. Raises CommandError."""
        before = self._ends()
        began = time.monotonic()
        for number, value in enumerate(values):
            self._producer.produce(self._source, value, f"default/bench-{began}-{number}".encode())
            self._producer.poll(0)
        self._producer.flush(ANSWER_S)
        while (arrived := self._ends() - before) < len(values):
            if time.monotonic() - began > PATIENCE_S:
                raise CommandError(
                    f"{arrived} of {len(values)} records came to {self._target} in {PATIENCE_S:.0f} s", 1
                )
            time.sleep(LOOK_S)
        return len(values) / (time.monotonic() - began)

    def close(self) -> None:
        self._consumer.close()

    def _ends(self) -> int:
        """Records on the target so far."""
        try:
            topic = self._consumer.list_topics(self._target, ANSWER_S).topics[self._target]
            places = [TopicPartition(self._target, number) for number in topic.partitions]
            return sum(self._consumer.get_watermark_offsets(place, ANSWER_S)[1] for place in places)
        except KafkaException as failure:
            raise CommandError(f"Kafka does not answer: {failure.args[0].str()}", 1) from failure


def make_topics(settings: Settings, *names: str) -> None:
    admin = AdminClient(settings.kafka_client({}))
    made = admin.create_topics([NewTopic(name, settings.partitions, 1) for name in names])
    for future in made.values():
        future.result(ANSWER_S)
