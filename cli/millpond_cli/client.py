"""A producer of ai.requests and a reader of ai.results: no more than any client of Millpond's is."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from millpond.v1 import result_pb2
from millpond.v1.envelope_pb2 import WIRE_FORMAT_PROTOBUF
from millpond_cli.errors import CommandError
from millpond_core import json_codec, telemetry, topics
from millpond_core.codec import CONTENT_TYPE, READ_LIMIT_BYTES, format_of
from millpond_core.settings import Settings
from millpond_core.telemetry import Headers, Tracing

SERVICE = "millpond-cli"
"""What the producer is called in traces."""

ANSWER_S = 10.0
"""One question to Kafka, or one record to be taken: beyond it Kafka counts as away."""

CHUNK = 500
"""Results read at a time."""


class Requests:
    """Produces requests, each the beginning of a trace. As a context: everything is delivered when it is left."""

    def __init__(self, settings: Settings, tracing: Tracing) -> None:
        self._tracing = tracing
        self._refused: KafkaError | None = None
        self._producer = Producer(
            settings.kafka_client(
                {
                    # Faust's partitioner, and so every producer's: a copy of a request must reach the same partition.
                    "partitioner": "murmur2_random",
                    "enable.idempotence": True,
                    # A broker that was killed may know this producer no more, and takes a later request first: the
                    # earlier one, sent again, then counts as a copy.
                    "max.in.flight": 1,
                    "message.max.bytes": READ_LIMIT_BYTES,
                    "message.timeout.ms": int(ANSWER_S * 1000),
                    "log_level": 0,
                }
            )
        )

    def send(self, body: bytes, key: bytes | None = None, headers: Headers = ()) -> str:
        """The trace id of the request, by which its result is found. Raises CommandError."""
        span = self._tracing.send(topics.REQUESTS, None)
        try:
            self._producer.produce(
                topics.REQUESTS,
                body,
                key,
                headers=list(telemetry.inject(headers, span)),
                on_delivery=self._delivered,
            )
        except KafkaException as failure:
            raise CommandError(f"Kafka did not take a request: {failure.args[0].str()}", 1) from failure
        finally:
            span.end()
        self._producer.poll(0)
        return telemetry.trace_id(span)

    def flush(self) -> None:
        """Wait until Kafka has everything. Raises CommandError."""
        waiting = self._producer.flush(2 * ANSWER_S)
        if self._refused is not None or waiting:
            why = self._refused.str() if self._refused else "it does not answer"
            raise CommandError(f"Kafka did not take a request: {why}", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.flush()
        else:
            self._producer.purge()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        del message
        self._refused = self._refused or error


class Results:
    """Reads ai.results from its end at the time of making, or from its beginning, in no group: it disturbs nobody."""

    def __init__(self, settings: Settings, *, from_beginning: bool = False) -> None:
        """Raises CommandError where Kafka or the topic is not there."""
        self._consumer = Consumer(
            settings.kafka_client(
                {
                    # librdkafka wants a name even where nothing is committed under it.
                    "group.id": SERVICE,
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "log_level": 0,
                }
            )
        )
        try:
            self._consumer.assign(self._starts(from_beginning))
        except KafkaException as failure:
            self._consumer.close()
            raise CommandError(f"Kafka does not answer: {failure.args[0].str()}", 1) from failure

    def take(self, within_s: float) -> Sequence[result_pb2.Result]:
        """Those that are there, at least one unless none comes within that time. Raises CommandError."""
        first = self._consumer.poll(within_s)
        if first is None:
            return ()
        messages = [first, *self._consumer.consume(CHUNK, 0)]
        for message in messages:
            if (error := message.error()) is not None:
                raise CommandError(f"ai.results cannot be read: {error.str()}", 1)
        return [result_in(message) for message in messages]

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _starts(self, from_beginning: bool) -> list[TopicPartition]:
        metadata = self._consumer.list_topics(topics.RESULTS, ANSWER_S).topics[topics.RESULTS]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        starts: list[TopicPartition] = []
        for number in metadata.partitions:
            place = TopicPartition(topics.RESULTS, number)
            first, end = self._consumer.get_watermark_offsets(place, ANSWER_S)
            place.offset = first if from_beginning else end
            starts.append(place)
        return starts


def result_in(message: Message) -> result_pb2.Result:
    """The result in a record of ai.results, whichever format it has."""
    value = message.value() or b""
    content_type = next((value for name, value in message.headers() or () if name == CONTENT_TYPE), None)
    if format_of(content_type) == WIRE_FORMAT_PROTOBUF:
        return result_pb2.Result.FromString(value)
    return json_codec.decode(value, result_pb2.Result)
