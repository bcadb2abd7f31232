"""What lies on topics, as a read_committed reader in no group sees it."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millpond_core.settings import Settings

ANSWER_S = 60.0
"""Seconds without anything from Kafka after which it counts as away."""

CHUNK = 500


def everything_on(settings: Settings, *names: str) -> Iterator[Message]:
    """Every record of these topics, from their beginnings to their ends as they are now. Raises KafkaException.

    What is written meanwhile is left out: whoever writes because of what is read here would never come to an end.
    """
    consumer = _consumer(settings)
    try:
        standing = consumer.list_topics(timeout=ANSWER_S).topics
        for name in names:
            if name not in standing:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        places = [TopicPartition(name, number, 0) for name in names for number in standing[name].partitions]
        ends = {(place.topic, place.partition): consumer.get_watermark_offsets(place, ANSWER_S)[1] for place in places}
        left = {place for place, end in ends.items() if end > 0}
        consumer.assign([place for place in places if (place.topic, place.partition) in left])
        while left:
            for message in _some(consumer):
                place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
                error = message.error()
                if error is None:
                    if offset < ends[place]:
                        yield message
                    if offset >= ends[place] - 1:
                        left.discard(place)
                elif error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                    left.discard(place)
                elif error.fatal():
                    raise KafkaException(error)
    finally:
        consumer.close()


def record_at(settings: Settings, topic: str, number: int, offset: int) -> Message | None:
    """The record at this place; None where there is none. Raises KafkaException."""
    consumer = _consumer(settings)
    try:
        place = TopicPartition(topic, number, offset)
        if number not in consumer.list_topics(topic, ANSWER_S).topics[topic].partitions:
            return None
        first, end = consumer.get_watermark_offsets(place, ANSWER_S)
        if not first <= offset < end:
            return None
        consumer.assign([place])
        message = _some(consumer)[0]
        return message if message.error() is None and message.offset() == offset else None
    finally:
        consumer.close()


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        settings.kafka_client(
            {
                # librdkafka wants a name even where nothing is committed under it.
                "group.id": "millpond-cli",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
    )


def _some(consumer: Consumer) -> list[Message]:
    """Raises KafkaException where Kafka has nothing more and no end either."""
    first = consumer.poll(ANSWER_S)
    if first is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # pyright: ignore[reportPrivateUsage]
    return [first, *consumer.consume(CHUNK, 0)]
