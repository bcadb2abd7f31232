"""The port to Kafka. Two adapters pass one contract suite: `confluent_broker` and `memory_broker`.

A broker is one member of one consumer group with one transactional producer. All its methods are called from one
thread, so no partition can be taken away between a poll and the commit that follows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from millpond_core.processor.record import Outgoing, Partition, Record


class Aborted(Exception):
    """The transaction was given up and nothing of it will be seen. It may be tried again after the next poll."""


class Unreachable(Exception):
    """Kafka does not answer just now. Nothing was done; it may be tried again."""


class Fenced(Exception):
    """Another process has this replica's place, or the producer is beyond repair: the process must end."""


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset to be read, and the text that is committed with it (4,095 characters at most)."""

    partition: Partition
    offset: int
    metadata: str


Assigned = Position
"""A partition that this member has from now on, from the position that its group committed last."""


@dataclass(frozen=True, slots=True)
class Polled:
    """What happened since the last poll, in this order: partitions lost, partitions won, records.

    revoked: nothing of these partitions may be committed any more.
    records: of partitions that this member has; of one partition in ascending order of offset.
    """

    revoked: Sequence[Partition]
    assigned: Sequence[Assigned]
    records: Sequence[Record]


class Reader(Protocol):
    """Reads committed records beside the group. All its methods are called from one thread, which may be any."""

    def follow(self, partition: Partition, start: int) -> None:
        """Let `poll` give this partition from here on, besides those that it gives already."""
        ...

    def leave(self, partition: Partition) -> None: ...

    def poll(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Wait up to timeout_s seconds for records of what is followed; of one partition in ascending order."""
        ...

    def fetch(self, partition: Partition, offsets: Sequence[int]) -> Sequence[Record]:
        """The records at these ascending offsets. Those that are not there, or do not come in time, are left out."""
        ...

    def close(self) -> None: ...


class Broker(Protocol):
    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """Wait up to timeout_s seconds for something to happen. Raises Fenced."""
        ...

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Fetch no more of these until they are resumed."""
        ...

    def resume(self, partitions: Sequence[Partition]) -> None: ...

    def commit(self, outgoing: Sequence[Outgoing], positions: Sequence[Position]) -> dict[Partition, int]:
        """Write the records and move the group to the positions, both or neither.

        Returns the offset of the last record written to each partition that a record named itself.
        Raises Aborted or Fenced.
        """
        ...

    def read(self, partition: Partition, start: int) -> Iterator[tuple[Sequence[Record], int]]:
        """Committed records of any partition from start up to its end as it was when the reading began.

        Gives (records, the next offset), and gives the end even where no record is left. What was committed before
        the call is read, also where a transaction that lies beside it is still open: then this waits for its end.
        A start beyond the end begins anew: the partition was made again since. Raises Unreachable.
        """
        ...

    def reader(self) -> Reader:
        """A reader of its own connections, for another thread."""
        ...

    def close(self) -> None:
        """Leave the group at once."""
        ...
