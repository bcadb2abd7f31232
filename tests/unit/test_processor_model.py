"""One request, one result, under interleavings that Hypothesis chooses: two stages of up to three processes each, over
the broker in memory, with every call of the broker held until a rule lets it through.

A rule sends requests, copies and conflicts; lets a process go on to its next call; finishes or retries what a strategy
holds; kills a process before its call or just after it; starts another under the same number (the first one lives on as
a zombie); throws a member out of its group; has transactions refused; lets time pass; loses a dead replica's files. At
the end every fault is over, and what is left is worked off.

What must hold is said of the logs alone, as a read_committed reader sees them (`check` always, `teardown` at the end).
"""

from __future__ import annotations

import asyncio
import queue
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from millpond_core.clock import ManualClock
from millpond_core.processor import (
    ATTEMPT_HEADER,
    BODY_HEADER,
    Claims,
    Fenced,
    Finish,
    Outgoing,
    Partition,
    Polled,
    Position,
    Processor,
    ProcessorSettings,
    Reader,
    Record,
    Taken,
    Unread,
    header,
    with_header,
)
from millpond_core.processor.memory_broker import MemoryBroker, MemoryCluster

PARTITIONS = 2
REPLICAS = 2
MOST_PROCESSES = 3
"""Of one stage: both replicas, and a zombie."""

MEMORY = Path("/dev/shm")
"""Where there is one, claims lie there: each start of a process costs some syncs of its files."""

MOVE_AFTER_S = 5.0
ROUNDS = 400
"""In which what is left must be worked off once no fault comes any more; some 30 do."""

CALLS_TO_COMMIT = 3
"""In which a process with something finished comes to its commit, unless it waits after an aborted one."""

REQUESTED, ADMITTED = "requested", "admitted"
CLAIMS, RESULTS, LETTERS = "claims", "results", "letters"
STAGES = {"admit": REQUESTED, "work": ADMITTED}
"""Stage → the topic that it reads. The first one claims, and passes on to the second or answers itself."""

SETTINGS = ProcessorSettings(
    max_poll_records=2,
    max_in_flight=4,
    transaction_records=3,
    linger_s=0,
    move_after_s=MOVE_AFTER_S,
    commit_s=1e6,
    drain_s=1e6,
)
"""Small bounds, so that few records pause a partition and fill a transaction; no wait ends by the wall clock."""


class Killed(Exception):
    """The process died in a call of the broker."""


class Fate(Enum):
    PASS = "pass"
    KILL_BEFORE = "killed before the broker heard of the call"
    KILL_AFTER = "killed after the broker carried the call out, before its answer was heard"


class Gate:
    """A broker whose calls wait for their fate. What a process has in its hands is known here, by its calls."""

    def __init__(self, inner: MemoryBroker, loop: asyncio.AbstractEventLoop, work: Work) -> None:
        self.inner = inner
        self.call = ""
        """The one that waits."""
        self.waiting = asyncio.Event()
        self.fates: queue.SimpleQueue[Fate] = queue.SimpleQueue()
        self._loop = loop
        self._work = work
        self._dead = False

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        after = self._pass("poll")
        polled = self.inner.poll(max_records, timeout_s)
        for partition in polled.revoked:
            self._work.lost(self, partition)
        self._die(after)
        return polled

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.inner.pause(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.inner.resume(partitions)

    def commit(self, outgoing: Sequence[Outgoing], positions: Sequence[Position]) -> dict[Partition, int]:
        after = self._pass("commit")
        written = self.inner.commit(outgoing, positions)
        self._work.committed(self, outgoing)
        self._die(after)
        return written

    def read(self, partition: Partition, start: int) -> Iterator[tuple[Sequence[Record], int]]:
        self._die(self._pass("read"))
        return self.inner.read(partition, start)

    def reader(self) -> Reader:
        return self.inner.reader()

    def close(self) -> None:
        # The dead say nothing: their group takes them for living until their session ends.
        if not self._dead:
            self.inner.close()

    def _pass(self, call: str) -> Fate:
        self.call = call
        self._loop.call_soon_threadsafe(self.waiting.set)
        fate = self.fates.get()
        if fate is Fate.KILL_BEFORE:
            self._die(Fate.KILL_AFTER)
        return fate

    def _die(self, fate: Fate) -> None:
        if fate is Fate.KILL_AFTER:
            self._dead = True
            raise Killed


@dataclass
class Work:
    """How often each request was handed to the second stage's strategy, and how often it may have been: once, and again
    after each time that its holder lost it or sent it to the tail."""

    begun: Counter[bytes] = field(default_factory=Counter[bytes])
    allowed: Counter[bytes] = field(default_factory=Counter[bytes])
    hands: dict[Gate, dict[bytes, Partition]] = field(default_factory=lambda: defaultdict(dict[bytes, Partition]))

    def begin(self, holder: Gate, record: Record) -> None:
        assert record.key is not None
        self.begun[record.key] += 1
        self.hands[holder][record.key] = record.partition

    def committed(self, holder: Gate, outgoing: Sequence[Outgoing]) -> None:
        for each in outgoing:
            if each.key is not None and self.hands[holder].pop(each.key, None) and each.topic == ADMITTED:
                self.allowed[each.key] += 1

    def lost(self, holder: Gate, partition: Partition | None = None) -> None:
        """partition: None is all that it has."""
        for key, place in list(self.hands[holder].items()):
            if partition in (None, place):
                self.allowed[key] += 1
                del self.hands[holder][key]


class Desk:
    """A strategy that holds what it is given until it is told what comes of it. auto: all is answered at once."""

    def __init__(self, finish: Finish, stage: str, gate: Gate, work: Work) -> None:
        self.auto = False
        self.held: list[Taken] = []
        self.answered: list[Taken] = []
        self._finish = finish
        self._stage = stage
        self._gate = gate
        self._work = work

    def submit(self, taken: Sequence[Taken]) -> None:
        if self._stage == "work":
            for each in taken:
                self._work.begin(self._gate, each.record)
        self.held += taken

    def tick(self) -> None:
        if self.auto:
            self.answer_all()

    def release(self, taken: Taken) -> bool:
        if taken in self.held:
            self.held.remove(taken)
            return True
        return False

    def drop(self, taken: Sequence[Taken]) -> None:
        """Nothing: late answers come all the same, and must be of no effect."""

    async def ahead(self, unread: Unread, room: int) -> Sequence[int]:
        return ()

    async def drain(self) -> None:
        self.answer_all()

    def answer_all(self) -> None:
        while self.held:
            self.answer(0)

    def answer(self, index: int, *, urgent: bool = False, direct: bool = False) -> None:
        """direct: the first stage answers itself."""
        taken = self.held.pop(index)
        self.answered.append(taken)
        self.settle(taken, urgent=urgent, direct=direct)

    def settle(self, taken: Taken, *, urgent: bool = False, direct: bool = False) -> bool:
        topic = ADMITTED if self._stage == "admit" and not direct else RESULTS
        return self._finish(taken, [Outgoing(topic, taken.record.key, taken.record.value)], urgent=urgent)

    def retry(self, index: int) -> None:
        taken = self.held.pop(index)
        record = taken.record
        attempt = int(header(record.headers, ATTEMPT_HEADER) or b"0") + 1
        headers = with_header(record.headers, ATTEMPT_HEADER, b"%d" % attempt)
        again = Outgoing(record.partition.topic, record.key, record.value, headers, record.partition.number)
        self._finish(taken, [again])


@dataclass(eq=False)
class Process:
    stage: str
    number: int
    gate: Gate
    desk: Desk
    processor: Processor
    task: asyncio.Task[None]
    asleep: bool = False


class Pipeline(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1_000_000.0)
        topics = (REQUESTED, ADMITTED, CLAIMS, RESULTS, LETTERS)
        self.cluster = MemoryCluster(dict.fromkeys(topics, PARTITIONS), self.clock)
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="millpond-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.living: list[Process] = []
        self.dead: list[Process] = []
        self.work = Work()

    @initialize(replicas=st.integers(1, REPLICAS), requests=st.integers(0, 12))
    def both_stages_run(self, replicas: int, requests: int) -> None:
        for stage in STAGES:
            for number in range(replicas):
                self._start(stage, number)
        self.send_many(10, requests)

    # Producers, and a router that delivers at least once

    @rule(key=st.sampled_from([b"a/1", b"a/2", b"b/1", b"b/2", b"c/1", b"c/4"]), body=st.sampled_from([b"x", b"y"]))
    def send(self, key: bytes, body: bytes) -> None:
        self.cluster.append(Outgoing(REQUESTED, key, body, ((BODY_HEADER, body),)))

    @rule(first=st.integers(10, 89), count=st.integers(2, 8))
    def send_more(self, first: int, count: int) -> None:
        self.send_many(first, count)

    def send_many(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.send(b"n/%d" % number, b"x")

    @precondition(lambda self: self._accepted()[0])
    @rule(which=st.integers(0, 99))
    def send_again(self, which: int) -> None:
        every = self.cluster.records(REQUESTED)
        first = every[which % len(every)]
        assert first.key is not None and first.value is not None
        self.send(first.key, first.value)

    # Processes

    @rule(stage=st.sampled_from(list(STAGES)), number=st.integers(0, REPLICAS - 1))
    def start(self, stage: str, number: int) -> None:
        """Where one with this number lives it goes on as a zombie, at whatever call it had come to."""
        if sum(each.stage == stage for each in self.living) < MOST_PROCESSES:
            self._start(stage, number)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 5), calls=st.integers(1, 6))
    def proceed(self, which: int, calls: int) -> None:
        """One that was asleep wakes up by this."""
        process = self.living[which % len(self.living)]
        process.asleep = False
        for _ in range(calls):
            self._go_on(process, Fate.PASS)

    @rule(rounds=st.integers(1, 8), answered=st.sampled_from(["nothing", "the newest", "everything"]))
    def go_on(self, rounds: int, answered: str) -> None:
        self.all_proceed(rounds, answered)

    def all_proceed(self, rounds: int, answered: str) -> None:
        for _ in range(rounds):
            for process in [each for each in self.living if not each.asleep]:
                if answered == "everything":
                    process.desk.answer_all()
                elif answered == "the newest" and process.desk.held:
                    process.desk.answer(-1)
                self._go_on(process, Fate.PASS)

    @precondition(lambda self: self._holders)
    @rule(which=st.integers(0, 5), expelled=st.booleans())
    def fall_asleep_before_a_commit(self, which: int, expelled: bool) -> None:
        """With all that it holds answered, before the broker hears of it. expelled: its session ends meanwhile."""
        process = self._holders[which % len(self._holders)]
        process.desk.answer_all()
        for _ in range(CALLS_TO_COMMIT):
            if process.gate.call != "commit":
                self._go_on(process, Fate.PASS)
        process.asleep = True
        if expelled:
            self._expel(process)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 5), fate=st.sampled_from([Fate.KILL_BEFORE, Fate.KILL_AFTER]))
    def kill(self, which: int, fate: Fate) -> None:
        self._go_on(self.living[which % len(self.living)], fate)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 5), fate=st.sampled_from([Fate.KILL_BEFORE, Fate.KILL_AFTER]), calls=st.integers(0, 4))
    def crash_and_start_again(self, which: int, fate: Fate, calls: int) -> None:
        process = self.living[which % len(self.living)]
        self._go_on(process, fate)
        successor = self._start(process.stage, process.number)
        for _ in range(calls):
            self._go_on(successor, Fate.PASS)

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 5))
    def stop(self, which: int) -> None:
        self.living[which % len(self.living)].processor.stop()

    @rule(number=st.integers(0, REPLICAS - 1))
    def lose_files(self, number: int) -> None:
        if not any(each.stage == "admit" and each.number == number for each in self.living):
            shutil.rmtree(self.folder / str(number), ignore_errors=True)

    # What strategies make of their work

    @precondition(lambda self: self._holders)
    @rule(
        which=st.integers(0, 5),
        index=st.integers(0, 9),
        count=st.integers(1, 4),
        urgent=st.booleans(),
        direct=st.booleans(),
    )
    def answer(self, which: int, index: int, count: int, urgent: bool, direct: bool) -> None:
        desk = self._holders[which % len(self._holders)].desk
        for _ in range(count):
            if desk.held:
                desk.answer(index % len(desk.held), urgent=urgent, direct=direct)

    @precondition(lambda self: any(each.desk.answered for each in self.living))
    @rule(which=st.integers(0, 99))
    def answer_late(self, which: int) -> None:
        """A second answer to what was answered before."""
        every = [(each.desk, taken) for each in self.living for taken in each.desk.answered]
        desk, taken = every[which % len(every)]
        assert not desk.settle(taken)

    @precondition(lambda self: self._holders)
    @rule(which=st.integers(0, 5), index=st.integers(0, 9))
    def retry(self, which: int, index: int) -> None:
        desk = self._holders[which % len(self._holders)].desk
        desk.retry(index % len(desk.held))

    # The broker, and time

    @precondition(lambda self: self.living or self.dead)
    @rule(which=st.integers(0, 9))
    def expel(self, which: int) -> None:
        """A session ended, of a process that died or of one that was asleep."""
        every = self.living + self.dead
        self._expel(every[which % len(every)])

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 5))
    def partitions_change_hands(self, which: int) -> None:
        self._expel(self.living[which % len(self.living)])
        self.all_proceed(6, "everything")

    @rule(count=st.integers(1, 3))
    def refuse_transactions(self, count: int) -> None:
        self.cluster.refuse_transactions(count)

    @rule(seconds=st.sampled_from([0.1, MOVE_AFTER_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # The laws

    @invariant()
    def check(self) -> None:
        accepted, _ = self._accepted()
        results = self.cluster.records(RESULTS)
        twice = [key for key, count in Counter(each.key for each in results).items() if count > 1]
        assert not twice, f"more than one result: {twice}"
        for each in results:
            assert accepted.get(each.key) == each.value, f"{each.key} got the result of another body"
        for key, count in self.work.begun.items():
            assert count <= 1 + self.work.allowed[key], f"{key} was worked on again without need"

    def teardown(self) -> None:
        try:
            if self.living or self.dead:
                self._work_off()
                self._check_all_done()
        finally:
            for process in list(self.living):
                self._go_on(process, Fate.KILL_BEFORE)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_all_done(self) -> None:
        self.check()
        accepted, conflicts = self._accepted()
        lost = accepted.keys() - {each.key for each in self.cluster.records(RESULTS)}
        assert not lost, f"no result: {lost}"
        letters = Counter((each.key, each.value) for each in self.cluster.records(LETTERS))
        assert letters == conflicts
        assert self._unread() == []

    def _accepted(self) -> tuple[dict[bytes | None, bytes | None], Counter[tuple[bytes | None, bytes | None]]]:
        """Key → the body that was sent first; and the records that came later with another one."""
        accepted: dict[bytes | None, bytes | None] = {}
        conflicts: Counter[tuple[bytes | None, bytes | None]] = Counter()
        for record in self.cluster.records(REQUESTED):
            if accepted.setdefault(record.key, record.value) != record.value:
                conflicts[record.key, record.value] += 1
        return accepted, conflicts

    def _unread(self) -> list[Position]:
        """Where a group is not at the end of its topic."""
        positions: list[Position] = []
        for stage, topic in STAGES.items():
            ends = Counter(record.partition for record in self.cluster.records(topic))
            committed = [self.cluster.committed(stage, Partition(topic, number)) for number in range(PARTITIONS)]
            positions += [each for each in committed if (each.offset, each.metadata) != (ends[each.partition], "")]
        return positions

    # How processes are driven

    @property
    def _holders(self) -> list[Process]:
        return [each for each in self.living if each.desk.held]

    def _start(self, stage: str, number: int) -> Process:
        for zombie in self.living:
            if (zombie.stage, zombie.number) == (stage, number):
                self.work.lost(zombie.gate)
        gate = Gate(self.cluster.member(stage, number, [STAGES[stage]]), self.loop, self.work)
        desks: list[Desk] = []

        def make(finish: Finish) -> Desk:
            desks.append(Desk(finish, stage, gate, self.work))
            return desks[0]

        claims = Claims(CLAIMS, "id", self.folder / str(number), 10**12) if stage == "admit" else None

        def conflict(record: Record) -> Outgoing:
            return Outgoing(LETTERS, record.key, record.value)

        processor = Processor(gate, make, SETTINGS, self.clock, stage=stage, claims=claims, conflict=conflict)
        process = Process(stage, number, gate, desks[0], processor, self.loop.create_task(processor.run()))
        self.living.append(process)
        self._until_its_next_call(process)
        return process

    def _expel(self, process: Process) -> None:
        self.cluster.expel(process.gate.inner)
        self.work.lost(process.gate)

    def _go_on(self, process: Process, fate: Fate) -> None:
        """Let the call that the process waits in have its fate, and the process come to its next one."""
        if process not in self.living:
            return
        process.gate.waiting.clear()
        process.gate.fates.put(fate)
        self._until_its_next_call(process)

    def _until_its_next_call(self, process: Process) -> None:
        async def reached() -> None:
            waiting = self.loop.create_task(process.gate.waiting.wait())
            await asyncio.wait((waiting, process.task), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

        self.loop.run_until_complete(reached())
        if process.task.done():
            self.living.remove(process)
            self.dead.append(process)
            self.work.lost(process.gate)
            failure = process.task.exception()
            if failure is not None and not isinstance(failure, Killed | Fenced):
                raise failure

    def _work_off(self) -> None:
        """No fault comes any more: the sessions of the dead end, one process of each stage is there, time passes."""
        self.cluster.refuse_transactions(0)
        for process in self.dead:
            self._expel(process)
        for _ in range(ROUNDS):
            for stage in STAGES:
                if not any(each.stage == stage for each in self.living):
                    self._start(stage, 0)
            for process in list(self.living):
                process.desk.auto = True
                self._go_on(process, Fate.PASS)
            self.clock.advance(0.5)
            if not self._unread() and not any(each.processor.in_flight for each in self.living):
                return
        raise AssertionError(f"not worked off: {self._unread()}")


# The same examples in every run: what fails here fails for everybody.
Pipeline.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
)

TestPipeline = Pipeline.TestCase
