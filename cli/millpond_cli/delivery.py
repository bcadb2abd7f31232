"""Writes records to Kafka and waits until it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from millpond_cli.errors import CommandError
from millpond_core.codec import READ_LIMIT_BYTES
from millpond_core.processor import Outgoing
from millpond_core.settings import Settings

TAKEN_S = 30.0
"""Seconds that Kafka has to take the last of them."""

LOOK_S = 0.1
"""Seconds to wait for room among what is on its way."""

HEADERS_BYTES = 1 << 20
"""Beside the largest request."""


def deliver(settings: Settings, records: Iterable[Outgoing]) -> int:
    """How many there were; Kafka has them all. Raises CommandError."""
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        del message
        if error is not None:
            refused.append(error)

    producer = Producer(
        settings.kafka_client(
            {
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.max.bytes": READ_LIMIT_BYTES + HEADERS_BYTES,
                "message.timeout.ms": int(TAKEN_S * 1000),
                "log_level": 0,
            }
        )
    )
    sent = 0
    try:
        for each in records:
            _produce(producer, each, delivered)
            sent += 1
        waiting = producer.flush(TAKEN_S)
    except KafkaException as failure:
        raise CommandError(f"Kafka did not take a record: {failure.args[0].str()}", 1) from failure
    if refused or waiting:
        why = refused[0].str() if refused else "it does not answer"
        raise CommandError(f"Kafka did not take {len(refused) + waiting} of {sent}: {why}", 1)
    return sent


def _produce(producer: Producer, each: Outgoing, delivered: Callable[[KafkaError | None, Message], None]) -> None:
    while True:
        try:
            producer.produce(each.topic, each.value, each.key, headers=list(each.headers), on_delivery=delivered)
        except BufferError:
            producer.poll(LOOK_S)
        else:
            producer.poll(0)
            return
