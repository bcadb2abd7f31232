"""The broker in memory, for tests: topics, one consumer group per name, transactions, fencing and rebalances.

It keeps the promises of `Broker` and the order of Kafka's cooperative rebalance: a partition goes to its next owner
only after its last one heard, in a poll, that it lost it, or was expelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from millpond_core.clock import Clock
from millpond_core.processor.broker import Aborted, Fenced, Polled, Position
from millpond_core.processor.offset_map import METADATA_CHARACTERS
from millpond_core.processor.record import LARGEST_RECORD_BYTES, Outgoing, Partition, Record


@dataclass
class _Group:
    topics: set[str] = field(default_factory=set[str])
    members: list[MemoryBroker] = field(default_factory=list)
    positions: dict[Partition, Position] = field(default_factory=dict[Partition, Position])


class MemoryCluster:
    """All topics and groups of one test."""

    def __init__(self, partitions: Mapping[str, int], clock: Clock) -> None:
        """partitions: how many each topic has."""
        self.partitions = dict(partitions)
        self._clock = clock
        self._logs: dict[Partition, list[Record]] = defaultdict(list)
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self._producers: dict[str, MemoryBroker] = {}
        self._refusals = 0

    def append(self, outgoing: Outgoing) -> tuple[Partition, int]:
        """Write one record outside of any transaction. Returns where it lies."""
        # Any function of the key will do here: copies of a key must only meet in one partition.
        number = sum(outgoing.key or b"") % self.partitions[outgoing.topic]
        partition = Partition(outgoing.topic, number if outgoing.partition is None else outgoing.partition)
        log = self._logs[partition]
        now_ms = int(self._clock.now() * 1000)
        log.append(Record(partition, len(log), now_ms, outgoing.key, outgoing.value, outgoing.headers))
        return partition, len(log) - 1

    def records(self, topic: str) -> list[Record]:
        """Everything committed to a topic, partition by partition."""
        return [each for number in range(self.partitions[topic]) for each in self._logs[Partition(topic, number)]]

    def member(self, group: str, replica: int, topics: Sequence[str]) -> MemoryBroker:
        """A new process: it takes the place of the one that had this number, which is fenced."""
        name = f"{group}-{replica}"
        state = self._groups[group]
        state.topics.update(topics)
        broker = MemoryBroker(self, group, name)
        if before := self._producers.get(name):
            before.fenced = True
            self.expel(before)
        self._producers[name] = broker
        self.join(broker)
        return broker

    def join(self, member: MemoryBroker) -> None:
        self._groups[member.group].members.append(member)

    def expel(self, member: MemoryBroker) -> None:
        """The group holds this member for dead: its partitions go to others. It learns of it when it polls."""
        members = self._groups[member.group].members
        if member in members:
            members.remove(member)
        member.lost = True

    def refuse_transactions(self, count: int) -> None:
        """The next transactions are aborted."""
        self._refusals = count

    def owned(self, group: str) -> dict[Partition, MemoryBroker]:
        return {partition: member for member in self._groups[group].members for partition in member.held}

    def wanted(self, member: MemoryBroker) -> set[Partition]:
        """What this member is to have once everybody has heard: round robin over the members."""
        state = self._groups[member.group]
        if member not in state.members:
            return set()
        every = [Partition(topic, number) for topic in sorted(state.topics) for number in range(self.partitions[topic])]
        return set(every[state.members.index(member) :: len(state.members)])

    def committed(self, group: str, partition: Partition) -> Position:
        return self._groups[group].positions.get(partition, Position(partition, 0, ""))

    def fetch(self, partition: Partition, start: int, count: int) -> list[Record]:
        return self._logs[partition][start : start + count]

    def transact(
        self, member: MemoryBroker, outgoing: Sequence[Outgoing], positions: Sequence[Position]
    ) -> dict[Partition, int]:
        if member.fenced:
            raise Fenced(f"another process is {member.name}")
        if member.lost:
            raise Aborted("not a member of the group just now")
        if self._refusals:
            self._refusals -= 1
            raise Aborted("refused by the test")
        if any(len(each.metadata) > METADATA_CHARACTERS for each in positions):
            raise Aborted("a position's metadata is too long")
        if any(each.size > LARGEST_RECORD_BYTES for each in outgoing):
            raise Aborted("a record is too large")
        written = dict(self.append(each) for each in outgoing)
        self._groups[member.group].positions.update({each.partition: each for each in positions})
        return written


class MemoryBroker:
    """Implements `Broker`."""

    def __init__(self, cluster: MemoryCluster, group: str, name: str) -> None:
        self._cluster = cluster
        self.group = group
        self.name = name
        self.held: dict[Partition, int] = {}
        """Partition → the offset that is read next."""
        self.fenced = False
        self.lost = False
        self._paused: set[Partition] = set()

    def poll(self, max_records: int, timeout_s: float) -> Polled:  # noqa: ARG002
        if self.fenced:
            raise Fenced(f"another process is {self.name}")
        wanted = self._cluster.wanted(self)
        revoked = [partition for partition in self.held if self.lost or partition not in wanted]
        for partition in revoked:
            del self.held[partition]
            self._paused.discard(partition)
        if self.lost:
            self.lost = False
            self._cluster.join(self)
            wanted = self._cluster.wanted(self)
        taken = self._cluster.owned(self.group)
        assigned = [self._cluster.committed(self.group, each) for each in sorted(wanted) if each not in taken]
        for position in assigned:
            self.held[position.partition] = position.offset
        records: list[Record] = []
        for partition, offset in self.held.items():
            if partition not in self._paused and len(records) < max_records:
                found = self._cluster.fetch(partition, offset, max_records - len(records))
                self.held[partition] += len(found)
                records += found
        return Polled(revoked, assigned, records)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._paused.difference_update(partitions)

    def commit(self, outgoing: Sequence[Outgoing], positions: Sequence[Position]) -> dict[Partition, int]:
        return self._cluster.transact(self, outgoing, positions)

    def read(self, partition: Partition, start: int) -> Iterator[tuple[Sequence[Record], int]]:
        every = self._cluster.fetch(partition, 0, 1 << 31)
        yield (every if start > len(every) else every[start:]), len(every)

    def reader(self) -> MemoryReader:
        return MemoryReader(self._cluster)

    def close(self) -> None:
        self.held.clear()
        self._cluster.expel(self)


class MemoryReader:
    """Implements `Reader`."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._followed: dict[Partition, int] = {}
        """Partition → the offset that is read next."""

    def follow(self, partition: Partition, start: int) -> None:
        self._followed[partition] = start

    def leave(self, partition: Partition) -> None:
        del self._followed[partition]

    def poll(self, max_records: int, timeout_s: float) -> Sequence[Record]:  # noqa: ARG002
        records: list[Record] = []
        for partition, offset in self._followed.items():
            found = self._cluster.fetch(partition, offset, max_records - len(records))
            self._followed[partition] += len(found)
            records += found
        return records

    def fetch(self, partition: Partition, offsets: Sequence[int]) -> Sequence[Record]:
        return [record for offset in offsets for record in self._cluster.fetch(partition, offset, 1)]

    def close(self) -> None:
        self._followed.clear()
