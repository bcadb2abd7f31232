"""The loop that joins a broker, a strategy and the claims: poll, submit, commit."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, TypeVarTuple

from millpond_core import metrics
from millpond_core.clock import Clock
from millpond_core.processor.broker import Aborted, Broker, Fenced, Position, Unreachable
from millpond_core.processor.claims import Claims, Verdict
from millpond_core.processor.offset_map import OffsetMap
from millpond_core.processor.record import Outgoing, Partition, Record, header, with_header
from millpond_core.processor.scout import LOOK_S, Describe, Scout
from millpond_core.processor.unread import Unread

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Values = TypeVarTuple("Values")

BODY_HEADER = "body-sha256"
"""On records that can be claimed: the hash of the request's body."""

ATTEMPT_HEADER = "attempt"
"""How often this record was moved to its topic's tail; absent means never."""

BUSY_POLL_S = 0.002
"""Seconds that a poll waits while records are in flight: their results wait as long at most."""

IDLE_POLL_S = 0.05
"""Seconds that a poll waits when nothing is in flight; a record ends the wait at once. Bounds how late `tick` is."""

QUIET_POLLS = 50
"""Polls without news after which the busy wait grows by itself, up to ten times: rows that take long cost little."""

RETRY_FIRST_S = 0.02
RETRY_LAST_S = 1.0
"""Seconds before an aborted transaction is tried again: doubled each time from the first to the last."""

AHEAD_FULLNESS = 0.75
"""How full an offset map may get by what is taken ahead of its turn. The rest is for what is taken in its turn and
finished in another order: every second of `max_in_flight` records makes a thousand characters."""

MOVE_FULLNESS = 0.6
"""An offset map that is fuller than this gets its oldest records moved out of the way. Less than the other: or the map
would stay too full to take anything ahead and not full enough to be emptied."""

MOVED_AT_ONCE = 100
"""Records that are moved for the map's sake in one turn: each run that the position passes makes room."""

SCOUT_AFTER_S = 1.0
"""Seconds that a partition's records must have waited unread before they are read ahead: a short wait needs none."""

TAKEN_AHEAD = 200
"""Records that are taken ahead of their turn at once, and in hand of one partition beyond `max_in_flight`."""


@dataclass(frozen=True)
class ProcessorSettings:
    """max_in_flight: records of one partition taken and not finished, beyond which it is paused.

    transaction_records: records finished in one transaction, at most. linger_s: seconds that a finished record waits
    for others in its transaction, if it is not urgent: a transaction costs the broker as much as a hundred records do,
    and what is urgent waits for its end. scout_records: unread records of which a row is kept (53 bytes). move_after_s:
    seconds that one record may hold back the position of others that are finished. drain_s: seconds that `stop` waits
    for what is in flight.
    commit_s: seconds after which a transaction's end is not waited for any more, and the process must end: after a
    broker's restart librdkafka's send_offsets_to_transaction was seen to wait for ever, whatever its timeout says. The
    broker has given the transaction up long before (`confluent_broker.TRANSACTION_MS`): waiting on would gain nothing.
    """

    max_poll_records: int = 500
    max_in_flight: int = 500
    transaction_records: int = 500
    linger_s: float = 0.05
    scout_records: int = 1_000_000
    move_after_s: float = 60.0
    drain_s: float = 20.0
    commit_s: float = 10.0


@dataclass(eq=False, slots=True)
class Assignment:
    """One partition from its assignment to its loss. A later assignment of the same partition is another object."""

    partition: Partition
    offsets: OffsetMap
    taken: dict[int, Taken] = field(default_factory=dict)
    paused: bool = False
    waiting_since: float | None = None
    """When its records began to wait unread."""
    paused_at: float = 0.0
    """When it was last seen paused."""
    live: bool = True


@dataclass(eq=False, slots=True)
class Taken:
    """A record in this stage's hands. claimed: its claim is to be written with its outcome."""

    record: Record
    assignment: Assignment
    taken_at: float
    claimed: bool = False
    finished: bool = False

    @property
    def live(self) -> bool:
        """Whether an outcome is still wanted."""
        return self.assignment.live and not self.finished


class Finish(Protocol):
    def __call__(self, taken: Taken, outgoing: Sequence[Outgoing], *, urgent: bool = False) -> bool:
        """The record is dealt with: these records are what came of it.

        urgent: not to share a transaction with what is not. Returns False where it is too late (the partition is
        gone, or the record was finished before): then nothing is written and the work was in vain.
        """
        ...


class Strategy(Protocol):
    """A service's work. The processor calls it from the event loop; it calls `Finish` once for each record."""

    def submit(self, taken: Sequence[Taken]) -> None:
        """Begin work on these records and return at once."""
        ...

    def tick(self) -> None:
        """Called some 20 times a second or more often: what depends on the clock is done here."""
        ...

    def release(self, taken: Taken) -> bool:
        """Give a record up that has not been worked on, so that it can be moved. False where work on it runs."""
        ...

    def drop(self, taken: Sequence[Taken]) -> None:
        """The partition is gone: these outcomes are not wanted any more."""
        ...

    async def ahead(self, unread: Unread, room: int) -> Sequence[int]:
        """Offsets of unread records that are to be taken before their turn, in ascending order.

        room: how many of them may be taken to wait here; what ends at once has room.
        """
        ...

    async def drain(self) -> None:
        """Bring to an end, or to a point where it can be left, what is in flight; new records will not come."""
        ...


@dataclass(frozen=True, slots=True)
class _Completion:
    taken: Taken
    outgoing: Sequence[Outgoing]
    at: float


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Records read ahead of their turn, each with the offset of the one after it."""

    assignment: Assignment
    records: Sequence[tuple[Record, int]]


class Processor:
    """One replica of one stage."""

    def __init__(
        self,
        broker: Broker,
        make_strategy: Callable[[Finish], Strategy],
        settings: ProcessorSettings,
        clock: Clock,
        *,
        stage: str,
        claims: Claims | None = None,
        conflict: Callable[[Record], Outgoing] | None = None,
        describe: Describe | None = None,
    ) -> None:
        """stage: the service's name, for metrics.

        claims: where this stage is the first behind the producers. conflict: makes the dead letter of an id_conflict.
        describe: what is to be known of a record before its turn; without it nothing is read ahead.
        """
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._stage = stage
        self._claims = claims
        self._conflict = conflict
        self._assignments: dict[Partition, Assignment] = {}
        self._urgent: list[_Completion] = []
        self._bulk: list[_Completion] = []
        self._stopping = asyncio.Event()
        self._kafka = ThreadPoolExecutor(1, "kafka")
        self._scout = Scout(broker.reader(), describe, settings.scout_records) if describe else None
        self._fetched: list[_Fetched] = []
        self._quiet = 0
        self._retries = 0
        self._retry_at = 0.0
        self._hangs = False
        self._strategy = make_strategy(self._finish)

    @property
    def in_flight(self) -> int:
        return sum(assignment.offsets.unfinished for assignment in self._assignments.values())

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return tuple(self._assignments)

    def stop(self) -> None:
        """Take nothing more, finish or leave what is in flight, and let `run` end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`. Raises Fenced, and whatever the strategy raises: then the process must end."""
        drain: asyncio.Task[None] | None = None
        looking = asyncio.create_task(self._look_ahead(self._scout)) if self._scout else None
        try:
            while not (drain and self._drained(drain)):
                if self._stopping.is_set() and drain is None:
                    drain = asyncio.create_task(self._drain())
                await self._step(taking=drain is None)
                if looking and looking.done():
                    looking.result()
        finally:
            for task in (drain, looking):
                if task:
                    task.cancel()
            if self._scout:
                await self._scout.close()
            if not self._hangs:
                await self._call(self._close)
            self._kafka.shutdown(wait=not self._hangs)

    async def _drain(self) -> None:
        async with asyncio.timeout(self._settings.drain_s):
            await self._strategy.drain()

    def _drained(self, drain: asyncio.Task[None]) -> bool:
        if not drain.done() or self._urgent or self._bulk:
            return False
        if failure := drain.exception():
            if not isinstance(failure, TimeoutError):
                raise failure
            logger.warning("drain took more than %s s: %s records are left", self._settings.drain_s, self.in_flight)
        return True

    async def _step(self, *, taking: bool) -> None:
        polled = await self._call(self._broker.poll, self._settings.max_poll_records, self._patience())
        self._revoke(polled.revoked)
        for position in polled.assigned:
            await self._assign(position)
        if taking:
            self._take(polled.records)
            self._take_ahead()
        self._strategy.tick()
        self._move_blocking()
        progress = await self._commit()
        await self._adjust_flow(taking=taking)
        self._quiet = 0 if progress or polled.records else self._quiet + 1

    def _patience(self) -> float:
        if self._urgent or self._bulk_is_due():
            return BUSY_POLL_S if self._retries else 0
        if not self.in_flight:
            return IDLE_POLL_S
        return min(BUSY_POLL_S * (1 + self._quiet // QUIET_POLLS), BUSY_POLL_S * 10)

    # Assignments

    def _revoke(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            assignment = self._assignments.pop(partition, None)
            if assignment is None:
                continue
            assignment.live = False
            if self._scout:
                self._scout.leave(partition)
            if self._claims:
                self._claims.release(partition.number)
            self._strategy.drop([taken for taken in assignment.taken.values() if not taken.finished])
            logger.info("lost %s-%d with %d in flight", *partition, assignment.offsets.unfinished)

    async def _assign(self, position: Position) -> None:
        if self._claims and not await self._restored(self._claims, position.partition.number):
            return
        offsets = OffsetMap(position.offset, position.metadata)
        self._assignments[position.partition] = Assignment(position.partition, offsets)
        logger.info("have %s-%d from offset %d", *position.partition, position.offset)

    async def _restored(self, claims: Claims, number: int) -> bool:
        """Whether the claims are here; False where `stop` came first, after which nothing is taken."""
        while not self._stopping.is_set():
            try:
                await self._call(claims.restore, self._broker, number, int(self._clock.now() * 1000))
            except Unreachable as failure:
                logger.warning("waiting for the claims of partition %d: Kafka does not answer: %s", number, failure)
                await asyncio.sleep(RETRY_LAST_S)
            else:
                return True
        return False

    # Records

    def _take(self, records: Sequence[Record]) -> None:
        taken: list[Taken] = []
        now = self._clock.now()
        for record in records:
            assignment = self._assignments.get(record.partition)
            if assignment is not None and assignment.offsets.take(record.offset):
                taken.append(Taken(record, assignment, now))
        self._submit(taken)

    def _take_ahead(self) -> None:
        """Take what was read before its turn, where it is not too late."""
        taken: list[Taken] = []
        now = self._clock.now()
        for fetched in self._fetched:
            assignment = fetched.assignment
            for record, following in fetched.records:
                if assignment.live and assignment.offsets.take_ahead(record.offset, following):
                    taken.append(Taken(record, assignment, now))
        self._fetched = []
        if taken:
            metrics.RECORDS_TAKEN_AHEAD.labels(self._stage).inc(len(taken))
            self._submit(taken)

    def _submit(self, taken: Sequence[Taken]) -> None:
        fresh: list[Taken] = []
        for topic, count in Counter(each.record.partition.topic for each in taken).items():
            metrics.RECORDS_TAKEN.labels(topic, self._stage).inc(count)
        for each in taken:
            each.assignment.taken[each.record.offset] = each
            if self._claims is None or self._is_new(self._claims, each):
                fresh.append(each)
        if fresh:
            self._strategy.submit(fresh)

    # What waits unread

    async def _look_ahead(self, scout: Scout) -> None:
        while True:
            self._watch(scout)
            if scout.idle:
                await asyncio.sleep(LOOK_S)
                continue
            await scout.look()
            for assignment in list(self._assignments.values()):
                unread = scout.unread(assignment.partition)
                # A map without room for another run waits until the oldest records have made some.
                if unread is None or assignment.offsets.fullness >= AHEAD_FULLNESS:
                    continue
                unread.drop_before(assignment.offsets.following)
                # What was fetched at the last look may not be taken yet.
                coming = sum(len(each.records) for each in self._fetched if each.assignment is assignment)
                held = assignment.offsets.unfinished + coming
                room = max(self._settings.max_in_flight + TAKEN_AHEAD - held, 0)
                most = min(TAKEN_AHEAD, max(assignment.offsets.room(AHEAD_FULLNESS) - coming, 0))
                if wanted := (await self._strategy.ahead(unread, room))[:most]:
                    records = await scout.fetch(assignment.partition, wanted)
                    found = [(record, unread.following(record.offset)) for record in records]
                    for record in records:
                        unread.forget(record.offset)
                    self._fetched.append(_Fetched(assignment, found))

    def _watch(self, scout: Scout) -> None:
        """Let the scout read where records have waited for a while, and only there."""
        now = self._clock.now()
        for assignment in self._assignments.values():
            if assignment.paused:
                assignment.paused_at = now
                assignment.waiting_since = assignment.waiting_since or now
            elif now - assignment.paused_at > SCOUT_AFTER_S:
                assignment.waiting_since = None
                scout.leave(assignment.partition)
            if assignment.waiting_since is not None and now - assignment.waiting_since > SCOUT_AFTER_S:
                scout.watch(assignment.partition, assignment.offsets.following)
        metrics.UNREAD.labels(self._stage).set(scout.rows)

    def _is_new(self, claims: Claims, taken: Taken) -> bool:
        """Claim the record's request. A copy is finished here."""
        record = taken.record
        body = header(record.headers, BODY_HEADER)
        # A record that was moved to the tail was claimed by the transaction that moved it.
        if record.key is None or body is None or header(record.headers, ATTEMPT_HEADER):
            return True
        verdict = claims.claim(record.partition.number, record.key, body)
        if verdict is Verdict.NEW:
            taken.claimed = True
            return True
        if verdict is Verdict.CONFLICT and self._conflict:
            metrics.CONFLICTS.labels(self._stage).inc()
            self._finish(taken, [self._conflict(record)])
        else:
            metrics.COPIES_DROPPED.labels(self._stage).inc()
            self._finish(taken, [])
        return False

    def _finish(self, taken: Taken, outgoing: Sequence[Outgoing], *, urgent: bool = False) -> bool:
        if not taken.live:
            metrics.LATE_ANSWERS.labels(self._stage).inc()
            return False
        taken.finished = True
        if taken.claimed and self._claims and taken.record.key:
            outgoing = [*outgoing, self._claims.outgoing(taken.record.partition.number, taken.record.key)]
        (self._urgent if urgent else self._bulk).append(_Completion(taken, outgoing, self._clock.now()))
        return True

    def _move_blocking(self) -> None:
        """Send records that hold back others to their topic's tail, in the transaction that finishes them here."""
        latest = self._clock.now() - self._settings.move_after_s
        for assignment in self._assignments.values():
            if not assignment.offsets.blocked:
                continue
            full = assignment.offsets.fullness >= MOVE_FULLNESS
            for offset in assignment.offsets.oldest(MOVED_AT_ONCE if full else 1):
                oldest = assignment.taken[offset]
                if oldest.finished or (oldest.taken_at > latest and not full):
                    continue
                if self._strategy.release(oldest):
                    self._finish(oldest, [moved_to_tail(oldest.record)])
                    metrics.MOVED_TO_TAIL.labels(assignment.partition.topic, self._stage).inc()

    # Transactions

    async def _commit(self) -> bool:
        """Commit what is finished: the urgent first and by itself. Returns whether anything was."""
        if self._clock.now() < self._retry_at:
            return False
        progress = False
        size = self._settings.transaction_records
        while queue := self._urgent or (self._bulk if self._bulk_is_due() else None):
            batch = queue[:size]
            if not await self._transact(batch):
                return progress
            del queue[: len(batch)]
            progress = True
        return progress

    def _bulk_is_due(self) -> bool:
        """Whether what is finished and not urgent has waited long enough for others, or nothing more will come."""
        if not self._bulk:
            return False
        if len(self._bulk) >= self._settings.transaction_records or self._stopping.is_set():
            return True
        # A partition that is paused has no others to wait for, but for what is committed here.
        if any(assignment.paused for assignment in self._assignments.values()):
            return True
        # A clock that was set back does not hold it.
        return not 0 <= self._clock.now() - self._bulk[0].at < self._settings.linger_s

    async def _transact(self, batch: Sequence[_Completion]) -> bool:
        """One transaction. False where it was aborted and is to be tried again."""
        live = [completion for completion in batch if completion.taken.assignment.live]
        if not live:
            return True
        finished: dict[Partition, set[int]] = defaultdict(set)
        claimed: dict[int, list[bytes]] = defaultdict(list)
        for completion in live:
            record = completion.taken.record
            finished[record.partition].add(record.offset)
            if completion.taken.claimed and record.key:
                claimed[record.partition.number].append(record.key)
        positions = [
            Position(partition, *self._assignments[partition].offsets.position(offsets))
            for partition, offsets in finished.items()
        ]
        outgoing = [each for completion in live for each in completion.outgoing]
        try:
            async with asyncio.timeout(self._settings.commit_s):
                await self._call(self._write, outgoing, positions, claimed)
        except TimeoutError:
            # Its outcome is not known here: the next process under this number ends it, and reads what came of it.
            self._hangs = True
            raise Fenced(f"a transaction did not end within {self._settings.commit_s} s") from None
        except Aborted as failure:
            pause = min(RETRY_FIRST_S * 2**self._retries, RETRY_LAST_S)
            self._retries += 1
            self._retry_at = self._clock.now() + pause
            metrics.TRANSACTIONS_ABORTED.labels(self._stage).inc()
            logger.warning("transaction aborted, to be tried again in %.2f s: %s", pause, failure)
            return False
        self._retries = 0
        for partition, offsets in finished.items():
            assignment = self._assignments[partition]
            assignment.offsets.finish(offsets)
            for offset in offsets:
                del assignment.taken[offset]
            metrics.RECORDS_FINISHED.labels(partition.topic, self._stage).inc(len(offsets))
        metrics.TRANSACTIONS.labels(self._stage).inc()
        return True

    def _write(
        self, outgoing: Sequence[Outgoing], positions: Sequence[Position], claimed: dict[int, list[bytes]]
    ) -> None:
        with metrics.TRANSACTION_SECONDS.labels(self._stage).time():
            written = self._broker.commit(outgoing, positions)
        if self._claims and claimed:
            self._claims.settle(claimed, written, int(self._clock.now() * 1000))

    async def _adjust_flow(self, *, taking: bool) -> None:
        """Pause partitions with too much in flight, resume those with half of that."""
        most = self._settings.max_in_flight
        full: list[Assignment] = []
        free: list[Assignment] = []
        for assignment in self._assignments.values():
            held = assignment.offsets.unfinished
            if not assignment.paused and (held >= most or not taking):
                full.append(assignment)
            elif assignment.paused and taking and held <= most // 2:
                free.append(assignment)
        for assignments, paused, call in ((full, True, self._broker.pause), (free, False, self._broker.resume)):
            if assignments:
                await self._call(call, [assignment.partition for assignment in assignments])
                for assignment in assignments:
                    assignment.paused = paused
        self._measure()

    def _measure(self) -> None:
        held: dict[str, int] = defaultdict(int)
        paused: dict[str, int] = defaultdict(int)
        for assignment in self._assignments.values():
            held[assignment.partition.topic] += assignment.offsets.unfinished
            paused[assignment.partition.topic] += assignment.paused
        for topic, count in held.items():
            metrics.IN_FLIGHT.labels(topic, self._stage).set(count)
            metrics.PAUSED_PARTITIONS.labels(topic).set(paused[topic])

    # The thread that all calls of the broker come from

    async def _call(self, function: Callable[[*Values], Value], *arguments: *Values) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._kafka, function, *arguments)

    def _close(self) -> None:
        if self._claims:
            self._claims.close()
        self._broker.close()


def moved_to_tail(record: Record) -> Outgoing:
    """The same record for the end of its own partition."""
    attempt = int(header(record.headers, ATTEMPT_HEADER) or b"0") + 1
    headers = with_header(record.headers, ATTEMPT_HEADER, str(attempt).encode())
    return Outgoing(record.partition.topic, record.key, record.value, headers, record.partition.number)
