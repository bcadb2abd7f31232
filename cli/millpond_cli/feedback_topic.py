"""Writes and reads ai.feedback: what became of answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from millpond.v1 import feedback_pb2
from millpond_cli.client import ANSWER_S, CHUNK, SERVICE
from millpond_cli.errors import CommandError
from millpond_core import json_codec, topics
from millpond_core.codec import CONTENT_TYPE, decode_feedback
from millpond_core.errors import Malformed
from millpond_core.identity import key_of
from millpond_core.settings import Settings


def send(settings: Settings, judgements: Iterable[feedback_pb2.Feedback]) -> None:
    """All of them, acknowledged. Raises CommandError."""
    producer = Producer(
        settings.kafka_client(
            {
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.timeout.ms": int(ANSWER_S * 1000),
                "log_level": 0,
            }
        )
    )
    refused: list[str] = []
    try:
        for each in judgements:
            producer.produce(
                topics.FEEDBACK,
                json_codec.encode(each),
                key_of(each.tenant, each.id, 0),
                on_delivery=lambda error, _: refused.append(error.str()) if error else None,
            )
            producer.poll(0)
    except (KafkaException, BufferError) as failure:
        raise CommandError(f"Kafka did not take a judgement: {failure}", 1) from failure
    if producer.flush(2 * ANSWER_S) or refused:
        why = refused[0] if refused else "it does not answer"
        raise CommandError(f"Kafka did not take a judgement: {why}", 1)


def read(settings: Settings) -> tuple[Sequence[feedback_pb2.Feedback], int]:
    """(everything that is there, how many records could not be read). Raises CommandError."""
    consumer = Consumer(
        settings.kafka_client(
            {"group.id": SERVICE, "enable.auto.commit": False, "isolation.level": "read_committed", "log_level": 0}
        )
    )
    found: list[feedback_pb2.Feedback] = []
    wrong = 0
    try:
        left = _ends(consumer)
        consumer.assign([TopicPartition(topics.FEEDBACK, number, first) for number, (first, _) in left.items()])
        waiting = {number: end for number, (first, end) in left.items() if first < end}
        while waiting:
            records = consumer.consume(CHUNK, ANSWER_S)
            if not records:
                raise CommandError(f"{topics.FEEDBACK} cannot be read to its end: Kafka does not answer", 1)
            for record in records:
                if (error := record.error()) is not None:
                    raise CommandError(f"{topics.FEEDBACK} cannot be read: {error.str()}", 1)
                content_type = next((value for name, value in record.headers() or () if name == CONTENT_TYPE), None)
                try:
                    found.append(decode_feedback(record.value(), content_type))
                except Malformed:
                    wrong += 1
            for place in consumer.position([TopicPartition(topics.FEEDBACK, number) for number in waiting]):
                if place.offset >= waiting[place.partition]:
                    del waiting[place.partition]
    except KafkaException as failure:
        raise CommandError(f"Kafka does not answer: {failure.args[0].str()}", 1) from failure
    finally:
        consumer.close()
    return found, wrong


def _ends(consumer: Consumer) -> dict[int, tuple[int, int]]:
    """Partition → (first offset, end)."""
    metadata = consumer.list_topics(topics.FEEDBACK, ANSWER_S).topics[topics.FEEDBACK]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    ends: dict[int, tuple[int, int]] = {}
    for number in metadata.partitions:
        first, end = consumer.get_watermark_offsets(TopicPartition(topics.FEEDBACK, number), ANSWER_S)
        ends[number] = (first, end)
    return ends
