"""The broker over real Kafka, with confluent-kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

from millpond_core.processor.broker import Aborted, Fenced, Polled, Position, Unreachable
from millpond_core.processor.confluent_reader import BACKOFF_MS, ConfluentReader, Setting, committed_consumer, record_of
from millpond_core.processor.record import LARGEST_RECORD_BYTES, Outgoing, Partition, Record

logger = logging.getLogger(__name__)

CALL_S = 10.0
"""Seconds that one call to the broker may take before it is tried again or given up."""

RENEW_S = 3.0
"""Seconds that a new producer waits for a broker that is away; well within the time that a transaction may take
(`ProcessorSettings.commit_s`), so that the transaction is tried again and the process goes on."""

TRANSACTION_MS = 2000
"""What a producer that dies in mid-transaction may cost every read_committed reader, with the broker's check each
500 ms on top: 2.4 s measured, against 61 s by default."""

SESSION_MS = 6000
"""Milliseconds until the partitions of a replica that died go to another; 6,000 is the least that brokers allow by
default. A replica that comes back under its own number has them at once: members are static."""

PREFETCH_KB = 8192
"""Bytes that the client reads ahead, all partitions together; its default of 64 MB is a backlog in memory."""

RETRY_MS = {"retry.backoff.ms": 1, "retry.backoff.max.ms": 10}
"""By default every second transaction waits 100 ms for the markers of the one before it: 112 ms against 13."""

READ_WAIT_S = 0.05
"""Seconds that a read waits for more before it gives what it has."""

ASK_AGAIN_S = 0.2
"""Seconds between two questions to a broker that cannot answer yet."""

PASSING = (
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
)
"""What a broker that is away, or was just started, answers to the question for positions."""

LOST = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
"""What the client says when a broker is gone."""

CLOSE_S = 0.1
"""Seconds that the last poll waits."""

ANY_PARTITION = -1
"""librdkafka's word for "let the key decide"."""

READ_RECORDS = 2000
"""Records that `read` gives at a time."""


class ConfluentBroker:
    """Implements `Broker`."""

    def __init__(self, client: Mapping[str, str], group: str, replica: int, topics: Sequence[str]) -> None:
        """client: librdkafka settings, `bootstrap.servers` among them. replica: this member's lasting number.

        Ends what a dead process left open under this number. Raises KafkaException when Kafka cannot be reached.
        """
        self._client: dict[str, Setting] = {**client}
        self._group = group
        self._revoked: list[Partition] = []
        self._assigned: list[Position] = []
        self._reader: Consumer | None = None
        self._left_unassigned = False
        """Whether the client waits to be told of an assignment that was never made: it cannot be closed any more."""
        self._admin = AdminClient(self._client, logger=logger)
        self._member = f"{group}-{replica}"
        self._connection_lost = False
        self._producer = self._open_producer(CALL_S)
        self._consumer = Consumer(
            {
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 6,
                "queued.max.messages.kbytes": PREFETCH_KB,
                "fetch.queue.backoff.ms": BACKOFF_MS,
                **self._client,
                "group.id": group,
                "group.instance.id": self._member,
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            },
            logger=logger,
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        first = self._consumer.poll(timeout_s)
        messages = [first] if first is not None else []
        changes = len(self._revoked)
        if messages and max_records > 1:
            messages += self._consumer.consume(max_records - 1, 0)
        # A partition that was lost, and perhaps won again, after its record was fetched: the record comes again.
        stale = set(self._revoked[changes:])
        records = [record for message in messages if (record := record_of(message)) and record.partition not in stale]
        polled = Polled(self._revoked, self._assigned, records)
        self._revoked, self._assigned = [], []
        return polled

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._consumer.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._consumer.resume([TopicPartition(*partition) for partition in partitions])

    def commit(self, outgoing: Sequence[Outgoing], positions: Sequence[Position]) -> dict[Partition, int]:
        written: dict[Partition, int] = {}

        def note(error: KafkaError | None, message: Message) -> None:
            if error is None:
                written[Partition(str(message.topic()), int(message.partition() or 0))] = int(message.offset() or 0)

        # Taken before it is known that this process is still a member: a member that was cast out since has the old
        # generation in it, which the broker refuses. One cast out before has no member id, and would be waved through.
        metadata = self._consumer.consumer_group_metadata()
        if not self._consumer.memberid():
            raise Aborted("not a member of the group just now")
        self._renew_producer()
        offsets = [TopicPartition(*each.partition, each.offset, each.metadata) for each in positions]
        try:
            self._producer.begin_transaction()
            for each in outgoing:
                self._produce(each, note)
            self._producer.send_offsets_to_transaction(offsets, metadata, CALL_S)
            self._end_transaction(commit=True)
        except KafkaException as failure:
            self._give_up(failure)
        return written

    def read(self, partition: Partition, start: int) -> Iterator[tuple[Sequence[Record], int]]:
        reader = self._open_reader()
        end = self._end_of(partition)
        reader.assign([TopicPartition(*partition, OFFSET_BEGINNING if start > end else start)])
        following = -1
        while following < end:
            messages = reader.consume(READ_RECORDS, READ_WAIT_S)
            records = [record for message in messages if (record := record_of(message))]
            if records:
                following = records[-1].offset + 1
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                    # Markers of transactions are passed here; an open one stops it short of the end.
                    following = max(following, int(message.offset() or 0))
            if messages:
                yield records, following
        reader.unassign()

    def reader(self) -> ConfluentReader:
        return ConfluentReader(self._client, f"{self._group}-scout")

    def close(self) -> None:
        # The client hangs for ever when it is closed while an assignment waits to be told: none comes after this.
        if self._left_unassigned:
            return
        try:
            self._consumer.unsubscribe()
            self._consumer.poll(CLOSE_S)
        except KafkaException as failure:
            # A member that was fenced has nothing to leave.
            logger.info("closing without leaving the group: %s", failure.args[0].str())
        self._consumer.close()
        if self._reader:
            self._reader.close()

    def _open_producer(self, timeout_s: float) -> Producer:
        """Ends what was left open under this number. Raises KafkaException."""
        producer = Producer(
            {
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "compression.type": "lz4",
                **RETRY_MS,
                **self._client,
                "transactional.id": self._member,
                "transaction.timeout.ms": TRANSACTION_MS,
                "message.max.bytes": LARGEST_RECORD_BYTES,
                "error_cb": self._on_producer_error,
            },
            logger=logger,
        )
        producer.init_transactions(timeout_s)
        return producer

    def _on_producer_error(self, error: KafkaError) -> None:
        if error.code() in LOST:
            self._connection_lost = True

    def _renew_producer(self) -> None:
        """A new producer where this one's connection was lost since its last transaction. Raises Aborted, Fenced.

        librdkafka's waits for ever in its first transaction with a broker that was started again.
        """
        self._producer.poll(0)  # for the callback
        if not self._connection_lost:
            return
        try:
            self._producer = self._open_producer(RENEW_S)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.fatal():
                raise Fenced(error.str()) from failure
            raise Aborted(f"Kafka is away: {error.str()}") from failure
        self._connection_lost = False

    def _open_reader(self) -> Consumer:
        """The consumer that `read` assigns by hand; one for all reads, since a new one takes a second."""
        if self._reader is None:
            # The end is what is looked for: by default the broker keeps it back for half a second.
            self._reader = committed_consumer(self._client, f"{self._group}-reader", {"fetch.wait.max.ms": 10})
        return self._reader

    def _produce(self, each: Outgoing, note: Callable[[KafkaError | None, Message], None]) -> None:
        while True:
            try:
                self._producer.produce(
                    each.topic,
                    value=each.value,
                    key=each.key,
                    headers=list(each.headers),
                    partition=ANY_PARTITION if each.partition is None else each.partition,
                    on_delivery=None if each.partition is None else note,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _end_transaction(self, *, commit: bool) -> None:
        end = self._producer.commit_transaction if commit else self._producer.abort_transaction
        while True:
            try:
                end(CALL_S)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                # The outcome is not known until the coordinator says it: asking again is the only right thing.
                if not error.retriable() or error.txn_requires_abort():
                    raise
                logger.warning("the end of a transaction is not confirmed yet: %s", error.str())
            else:
                return

    def _give_up(self, failure: KafkaException) -> None:
        error: KafkaError = failure.args[0]
        if not error.fatal():
            try:
                self._end_transaction(commit=False)
            except KafkaException as second:
                raise Fenced(f"a transaction can neither be committed nor aborted: {second.args[0].str()}") from second
            raise Aborted(error.str()) from failure
        raise Fenced(error.str()) from failure

    def _end_of(self, partition: Partition) -> int:
        """The end of everything written, open transactions included. Raises Unreachable."""
        place = TopicPartition(*partition)
        latest = OffsetSpec.latest()
        assert latest is not None  # its type says that it may be; it is not
        try:
            found = self._admin.list_offsets(
                {place: latest}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=CALL_S
            )
            return found[place].result(CALL_S).offset
        except (KafkaException, TimeoutError) as failure:
            # It asks with the leader's epoch that it learned first, and a broker that was started again refuses that
            # for ever; a new client learns it anew.
            self._admin = AdminClient(self._client, logger=logger)
            raise Unreachable(str(failure)) from failure

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        try:
            committed = positions(consumer, partitions)
        except KafkaException:
            self._left_unassigned = True
            raise
        start: list[TopicPartition] = []
        for place in committed:
            fresh = place.offset < 0
            start.append(TopicPartition(place.topic, place.partition, OFFSET_BEGINNING if fresh else place.offset))
            partition = Partition(place.topic, place.partition)
            self._assigned.append(Position(partition, max(place.offset, 0), "" if fresh else place.metadata or ""))
        consumer.incremental_assign(start)
        # The client remembers a pause over the partition's loss: what was lost while paused would stay so for ever.
        consumer.resume(start)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = [Partition(place.topic, place.partition) for place in partitions]
        self._revoked += gone
        # One that came and went between two polls was never told of.
        self._assigned = [each for each in self._assigned if each.partition not in gone]
        # The client unassigns them itself when this returns.


class Committed(Protocol):
    """What `positions` needs of a Consumer."""

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]: ...


def positions(consumer: Committed, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """What the group committed last; asked until Kafka says it. Raises KafkaException where asking again is no use.

    Waits for transactions that are about to commit offsets: the position is what it will stay. A broker that was just
    started takes its time, and may say of single partitions that it does not know yet: that is not "never committed".
    """
    while True:
        try:
            found = consumer.committed(partitions, CALL_S)
        except KafkaException as failure:
            errors: list[KafkaError] = [failure.args[0]]
        else:
            errors = [place.error for place in found if place.error is not None]
            if not errors:
                return found
        wrong = errors[0]
        if wrong.fatal() or not (wrong.retriable() or wrong.code() in PASSING):
            raise KafkaException(wrong)
        logger.warning("waiting for the positions of %d partitions: %s", len(partitions), wrong.str())
        time.sleep(ASK_AGAIN_S)
