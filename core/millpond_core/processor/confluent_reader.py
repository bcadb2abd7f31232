"""Reads committed records of real Kafka beside the group, with confluent-kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from millpond_core.processor.broker import Fenced
from millpond_core.processor.record import Partition, Record

logger = logging.getLogger(__name__)

Setting = str | int | float | bool
"""Of librdkafka."""

AHEAD_KB = 2048
"""Bytes that the client reads ahead, all partitions together."""

BACKOFF_MS = 10
"""Milliseconds until the client fetches again after it had enough; its default of 1,000 is a second without records for
each `queued.max.messages.kbytes`."""

FETCH_BYTES = 65_536
"""What one fetch by offset brings along at most, but for a single record that is larger."""

FETCH_S = 5.0
"""Seconds that fetching by offset may take in all."""

SKIP_RECORDS = 200
"""Offsets between two wanted ones from which on a new fetch is cheaper than reading what lies between."""


class ConfluentReader:
    """Implements `Reader`."""

    def __init__(self, client: Mapping[str, Setting], group: str) -> None:
        """client: librdkafka settings. group: a name for the broker's logs; nothing is committed."""
        self._client = client
        self._group = group
        self._follower = committed_consumer(client, group, {"queued.max.messages.kbytes": AHEAD_KB})
        self._fetcher: Consumer | None = None

    def follow(self, partition: Partition, start: int) -> None:
        self._follower.incremental_assign([TopicPartition(*partition, start)])

    def leave(self, partition: Partition) -> None:
        self._follower.incremental_unassign([TopicPartition(*partition)])

    def poll(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        messages = self._follower.consume(max_records, timeout_s)
        return [record for message in messages if (record := record_of(message))]

    def fetch(self, partition: Partition, offsets: Sequence[int]) -> Sequence[Record]:
        if self._fetcher is None:
            small = {"fetch.message.max.bytes": FETCH_BYTES, "queued.max.messages.kbytes": AHEAD_KB}
            self._fetcher = committed_consumer(self._client, self._group, small)
        found: list[Record] = []
        wanted = list(reversed(offsets))
        until = time.monotonic() + FETCH_S
        while wanted and time.monotonic() < until:
            self._fetcher.assign([TopicPartition(*partition, wanted[-1])])
            if not self._fetch_on(self._fetcher, wanted, found, until):
                break
        self._fetcher.unassign()
        return found

    def close(self) -> None:
        self._follower.close()
        if self._fetcher:
            self._fetcher.close()

    def _fetch_on(self, consumer: Consumer, wanted: list[int], found: list[Record], until: float) -> bool:
        """Read from the last of `wanted` (descending) as long as the next one is near. False where nothing more comes.

        What was found, and what is passed and not there, leaves `wanted`.
        """
        # One by one: asked for more than there are, the client waits for the rest until the time is up.
        while (message := consumer.poll(max(until - time.monotonic(), 0))) is not None:
            record = record_of(message)
            if record is None:
                if _is_end(message):
                    return False
                continue
            while wanted and wanted[-1] < record.offset:
                wanted.pop()
            if wanted and wanted[-1] == record.offset:
                found.append(record)
                wanted.pop()
            if not wanted or wanted[-1] - record.offset > SKIP_RECORDS:
                return bool(wanted)
        return False


def committed_consumer(
    client: Mapping[str, Setting], group: str, further: Mapping[str, Setting] | None = None
) -> Consumer:
    """A consumer that is assigned by hand, sees what is committed, and is told of a partition's end."""
    return Consumer(
        {
            **client,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": BACKOFF_MS,
            **(further or {}),
        },
        logger=logger,
    )


def record_of(message: Message) -> Record | None:
    """None for news that is no record. Raises Fenced for an error that does not pass by itself."""
    error = message.error()
    if error is None:
        return Record(
            Partition(str(message.topic()), int(message.partition() or 0)),
            int(message.offset() or 0),
            message.timestamp()[1],
            _bytes(message.key()),
            _bytes(message.value()),
            tuple((name, _bytes(value) or b"") for name, value in message.headers() or ()),
        )
    if is_fatal(error):
        raise Fenced(error.str())
    if not _is_end(message):
        logger.warning("kafka: %s", error.str())
    return None


def is_fatal(error: KafkaError) -> bool:
    """Whether a client that says this is good for nothing any more.

    An error that comes in a message's place, or in a delivery report, says so by its code alone.
    """
    return error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)  # pyright: ignore[reportPrivateUsage]


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # pyright: ignore[reportPrivateUsage]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
