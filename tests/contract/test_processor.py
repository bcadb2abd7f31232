"""The processor's law, in memory and on real Kafka: one outcome per record, whatever dies and whoever takes over."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster import PATIENCE, Cluster, InMemory, RealKafka, fresh
from millpond_core.clock import SystemClock
from millpond_core.envelope import described
from millpond_core.processor import (
    BODY_HEADER,
    Claims,
    Fenced,
    Finish,
    Outgoing,
    Partition,
    Processor,
    ProcessorSettings,
    Record,
    Taken,
    Unread,
    header,
    memory_broker,
    offset_map,
)

DAY_MS = 24 * 3600 * 1000


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = InMemory() if request.param == "memory" else RealKafka(request.getfixturevalue("kafka"))
    yield cluster
    cluster.close()


@dataclass
class Bench:
    """A strategy whose outcomes the test decides. auto: what comes is finished at once."""

    finish: Finish
    target: str
    auto: bool = True
    held: list[Taken] = field(default_factory=list)
    dropped: list[Taken] = field(default_factory=list)
    wanted: list[bytes] = field(default_factory=list)
    """Keys of records that are to be taken before their turn."""
    looks: int = 0
    """How often it was asked for them."""
    greedy: bool = False
    """Whether to take whatever there is room for."""

    def submit(self, taken: Sequence[Taken]) -> None:
        self.held += taken
        if self.auto:
            self.answer_all()

    def answer_all(self) -> None:
        for taken in self.held:
            self.answer(taken)
        self.held = []

    def answer(self, taken: Taken, *, urgent: bool = False) -> bool:
        record = taken.record
        return self.finish(taken, [Outgoing(self.target, record.key, record.value)], urgent=urgent)

    def tick(self) -> None: ...

    def release(self, taken: Taken) -> bool:
        self.held.remove(taken)
        return True

    def drop(self, taken: Sequence[Taken]) -> None:
        self.dropped += taken

    async def ahead(self, unread: Unread, room: int) -> Sequence[int]:
        self.looks += 1
        if self.greedy:
            return unread.rows["offset"][unread.rows["key"] != 0][:room].tolist()
        return unread.having("key", self.wanted)

    async def drain(self) -> None:
        self.answer_all()


@dataclass
class Line:
    """One stage in a test: a source, a target, and replicas that come and go."""

    cluster: Cluster
    folder: Path
    partitions: int = 2
    settings: ProcessorSettings = field(default_factory=ProcessorSettings)
    claims: str | None = None

    def __post_init__(self) -> None:
        self.source = self.cluster.topic(self.partitions)
        self.target = self.cluster.topic(1)
        self.letters = self.cluster.topic(1)
        self.group = fresh("group")

    def replica(self, number: int = 0, *, auto: bool = True) -> tuple[Processor, Bench]:
        benches: list[Bench] = []

        def make(finish: Finish) -> Bench:
            benches.append(Bench(finish, self.target, auto))
            return benches[0]

        def conflict(record: Record) -> Outgoing:
            return Outgoing(self.letters, record.key, record.value)

        claims = Claims(self.claims, "3M/uN+u5=", self.folder / str(number), 7 * DAY_MS) if self.claims else None
        broker = self.cluster.member(self.group, number, [self.source])
        processor = Processor(
            broker,
            make,
            self.settings,
            SystemClock(),
            stage="test",
            claims=claims,
            conflict=conflict,
            describe=described,
        )
        return processor, benches[0]

    def send(self, word: str, body: str = "body", *, partition: int | None = None) -> None:
        headers = ((BODY_HEADER, body.encode()),)
        self.cluster.append(Outgoing(self.source, word.encode(), body.encode(), headers, partition))

    def results(self) -> list[str]:
        return sorted((record.key or b"").decode() for record in self.cluster.records(self.target))


@asynccontextmanager
async def running(processor: Processor) -> AsyncGenerator[asyncio.Task[None]]:
    """Ends with a clean stop, unless the test ended it otherwise."""
    task = asyncio.create_task(processor.run())
    try:
        yield task
    finally:
        processor.stop()
        with suppress(asyncio.CancelledError, Fenced):
            await task


async def until(condition: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
    for _ in range(PATIENCE):
        if condition():
            return
        if task and task.done():
            task.result()
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def kill(task: asyncio.Task[None]) -> None:
    """As near to SIGKILL as one process can come to itself: nothing that was finished after this is committed."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_every_record_has_one_outcome(cluster: Cluster, tmp_path: Path) -> None:
    line = Line(cluster, tmp_path)
    words = [f"k{number}" for number in range(50)]
    for word in words:
        line.send(word)
    processor, _ = line.replica()
    async with running(processor) as task:
        await until(lambda: len(line.results()) == 50, task)
    assert line.results() == sorted(words)


async def test_what_was_finished_out_of_order_is_not_done_again(cluster: Cluster, tmp_path: Path) -> None:
    """Every second record is finished, the replica dies, another takes its place: it gets the other half only."""
    line = Line(cluster, tmp_path, partitions=1)
    for number in range(10):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    async with running(processor) as task:
        await until(lambda: len(bench.held) == 10, task)
        for taken in bench.held[1::2]:
            assert bench.answer(taken)
        await until(lambda: len(line.results()) == 5, task)
        await kill(task)
    again, second = line.replica(auto=False)
    async with running(again) as task:
        await until(lambda: len(second.held) == 5, task)
        assert [taken.record.offset % 2 for taken in second.held] == [0] * 5
        second.answer_all()
        await until(lambda: len(line.results()) == 10, task)
    assert line.results() == sorted(f"k{number}" for number in range(10))


async def test_a_finished_record_waits_for_others_in_its_transaction_and_an_urgent_one_for_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    settings = ProcessorSettings(transaction_records=3, linger_s=3600)
    line = Line(cluster, tmp_path, partitions=1, settings=settings)
    for number in range(5):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    async with running(processor) as task:
        await until(lambda: len(bench.held) == 5, task)
        first, urgent, second, third, last = bench.held
        bench.answer(first)
        bench.answer(urgent, urgent=True)
        await until(lambda: bool(line.results()), task)
        assert line.results() == ["k1"]
        bench.answer(second)
        bench.answer(third)
        await until(lambda: len(line.results()) == 4, task)
        bench.held = []
        bench.answer(last)
    assert line.results() == [f"k{number}" for number in range(5)], "nobody waits for more once it is told to stop"


async def test_a_rebalance_in_the_middle_neither_loses_nor_doubles(cluster: Cluster, tmp_path: Path) -> None:
    line = Line(cluster, tmp_path, partitions=4)
    for number in range(40):
        line.send(f"k{number}", partition=number % 4)
    first, slow = line.replica(0, auto=False)
    async with running(first) as one:
        await until(lambda: len(slow.held) == 40, one)
        early, late = slow.held[:10], slow.held[10:]
        for taken in early:
            slow.answer(taken)
        await until(lambda: len(line.results()) == 10, one)
        slow.held = late
        second, quick = line.replica(1)
        async with running(second) as two:
            await until(lambda: bool(slow.dropped), one)
            # Answers of partitions that went away come too late, and are known to.
            outcomes = {taken: slow.answer(taken) for taken in late}
            assert not any(outcomes[taken] for taken in slow.dropped)
            slow.held, slow.auto = [], True
            await until(lambda: len(line.results()) >= 40, two)
    assert line.results() == sorted(f"k{number}" for number in range(40))
    assert quick.dropped == []


async def test_a_replica_that_lost_its_place_writes_nothing_more(cluster: Cluster, tmp_path: Path) -> None:
    line = Line(cluster, tmp_path, partitions=1)
    line.send("k")
    old, bench = line.replica(0, auto=False)
    async with running(old) as task:
        await until(lambda: len(bench.held) == 1, task)
        new, _ = line.replica(0)
        async with running(new) as other:
            await until(lambda: len(line.results()) == 1, other)
            bench.answer_all()
            with pytest.raises(Fenced):
                async with asyncio.timeout(PATIENCE * 0.02):
                    await task
    assert line.results() == ["k"]


async def test_a_copy_is_dropped_and_another_body_is_a_dead_letter(cluster: Cluster, tmp_path: Path) -> None:
    claims = cluster.topic(2)
    line = Line(cluster, tmp_path, claims=claims)
    for body in ("one", "one", "two", "one"):
        line.send("k", body)
    line.send("other", "one")
    processor, _ = line.replica()
    async with running(processor) as task:
        await until(lambda: len(cluster.records(line.letters)) == 1 and len(line.results()) == 2, task)
    assert line.results() == ["k", "other"]
    assert [record.value for record in cluster.records(line.letters)] == [b"two"]


async def test_claims_outlive_their_replica_and_its_files(cluster: Cluster, tmp_path: Path) -> None:
    """The first replica's files are lost with it; another one knows its claims from the topic."""
    claims = cluster.topic(2)
    line = Line(cluster, tmp_path, claims=claims)
    line.send("k")
    first, _ = line.replica(0)
    async with running(first) as task:
        await until(lambda: len(line.results()) == 1, task)
    line.send("k")
    line.send("last")
    second, _ = line.replica(1)
    async with running(second) as task:
        await until(lambda: "last" in line.results(), task)
        await until(lambda: second.in_flight == 0, task)
    assert line.results() == ["k", "last"]


async def test_a_claim_in_flight_holds_back_its_copy_and_dies_with_its_replica(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The first of two copies is in work when its replica dies: the next one does it, once."""
    claims = cluster.topic(1)
    line = Line(cluster, tmp_path, partitions=1, claims=claims)
    line.send("k")
    line.send("k")
    first, bench = line.replica(auto=False)
    async with running(first) as task:
        await until(lambda: first.in_flight == 1 and len(bench.held) == 1, task)
        await kill(task)
    second, _ = line.replica()
    async with running(second) as task:
        await until(lambda: len(line.results()) == 1 and second.in_flight == 0, task)
    assert line.results() == ["k"]


async def test_a_record_that_holds_others_back_moves_to_the_tail(cluster: Cluster, tmp_path: Path) -> None:
    """Its claim goes with it: when it comes again it is no copy of itself."""
    claims = cluster.topic(1)
    settings = ProcessorSettings(move_after_s=0)
    line = Line(cluster, tmp_path, partitions=1, settings=settings, claims=claims)
    line.send("slow")
    line.send("quick")
    processor, bench = line.replica(auto=False)
    async with running(processor) as task:
        await until(lambda: len(bench.held) == 2, task)
        bench.answer(bench.held.pop())
        await until(lambda: [taken.record.offset for taken in bench.held] not in ([0], []), task)
        (moved,) = bench.held
        assert moved.record.key == b"slow"
        assert header(moved.record.headers, "attempt") == b"1"
        bench.answer_all()
        await until(lambda: len(line.results()) == 2, task)
    assert line.results() == ["quick", "slow"]


async def test_what_is_in_flight_is_bounded_by_the_setting(cluster: Cluster, tmp_path: Path) -> None:
    line = Line(cluster, tmp_path, partitions=1, settings=ProcessorSettings(max_in_flight=10, max_poll_records=5))
    for number in range(100):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    most = 0
    async with running(processor) as task:
        while len(line.results()) < 100:
            await until(lambda: bool(bench.held) or len(line.results()) == 100, task)
            most = max(most, processor.in_flight)
            bench.answer_all()
            await asyncio.sleep(0)
    # One poll may come on top of the bound before the partition is paused.
    assert most < 10 + 5
    assert line.results() == sorted(f"k{number}" for number in range(100))


async def test_a_record_far_back_is_taken_before_its_turn_and_not_again(cluster: Cluster, tmp_path: Path) -> None:
    """The partition is paused long before it; a second life neither does it again nor loses what lies before it."""
    settings = ProcessorSettings(max_in_flight=10, max_poll_records=5)
    line = Line(cluster, tmp_path, partitions=1, settings=settings, claims=cluster.topic(1))
    for number in range(100):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    bench.wanted = [b"k70", b"k90", b"k91"]
    task = asyncio.create_task(processor.run())
    await until(lambda: {each.record.key for each in bench.held} >= set(bench.wanted), task)
    for taken in [each for each in bench.held if each.record.key in bench.wanted]:
        bench.answer(taken)
    await until(lambda: line.results() == ["k70", "k90", "k91"], task)
    await kill(task)
    processor, bench = line.replica()
    async with running(processor) as task:
        await until(lambda: len(line.results()) >= 100, task)
    assert line.results() == sorted(f"k{number}" for number in range(100))
    assert not {b"k70", b"k90", b"k91"} & {each.record.key for each in bench.held}


async def test_what_waits_here_before_its_turn_is_bounded_as_well(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millpond_core.processor.processor.TAKEN_AHEAD", 7)
    settings = ProcessorSettings(max_in_flight=10, max_poll_records=5)
    line = Line(cluster, tmp_path, partitions=1, settings=settings)
    for number in range(100):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    bench.greedy = True
    async with running(processor) as task:
        await until(lambda: len(bench.held) >= 10 + 7, task)
        looks = bench.looks
        await until(lambda: bench.looks > looks + 3, task)
        # One poll may come on top of the bound before the partition is paused.
        assert processor.in_flight < 10 + 7 + 5
        while len(line.results()) < 100:
            await until(lambda: bool(bench.held) or len(line.results()) == 100, task)
            bench.answer_all()
            await asyncio.sleep(0)
    assert line.results() == sorted(f"k{number}" for number in range(100))


async def test_a_full_map_is_emptied_by_moving_what_holds_it_up(cluster: Cluster, tmp_path: Path) -> None:
    """Every other record is finished before its turn: far more runs than a commit's metadata can hold."""
    settings = ProcessorSettings(max_in_flight=100, max_poll_records=50)
    line = Line(cluster, tmp_path, partitions=1, settings=settings)
    for number in range(4000):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    bench.wanted = [f"k{number}".encode() for number in range(1, 4000, 2)]
    async with running(processor) as task:

        def odd_ones_are_done() -> bool:
            for taken in [each for each in bench.held if each.record.key in wanted]:
                bench.held.remove(taken)
                bench.answer(taken)
            return len(line.results()) == len(wanted)

        wanted = set(bench.wanted)
        await until(odd_ones_are_done, task)
        bench.auto = True
        bench.answer_all()
        await until(lambda: len(line.results()) == 4000, task)
    assert line.results() == sorted(f"k{number}" for number in range(4000))


async def test_what_is_taken_far_ahead_never_makes_a_position_that_kafka_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tenth of Kafka's characters, and a hundred records that are wanted at once, each a run of its own."""
    for module in (offset_map, memory_broker):
        monkeypatch.setattr(module, "METADATA_CHARACTERS", 400)
    settings = ProcessorSettings(max_in_flight=20, max_poll_records=20)
    line = Line(InMemory(), tmp_path, partitions=1, settings=settings)
    for number in range(8000):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    wanted = {f"k{number}".encode() for number in range(100, 8000, 20)}
    bench.wanted = [*wanted]
    async with running(processor) as task:

        def wanted_ones_are_done() -> bool:
            for taken in [each for each in bench.held if each.record.key in wanted]:
                bench.held.remove(taken)
                bench.answer(taken)
            return len(line.results()) == len(wanted)

        await until(wanted_ones_are_done, task)
        bench.auto = True
        bench.answer_all()
        await until(lambda: len(line.results()) == 8000, task)
    assert line.results() == sorted(f"k{number}" for number in range(8000))


async def test_a_clean_stop_finishes_what_is_in_flight(cluster: Cluster, tmp_path: Path) -> None:
    line = Line(cluster, tmp_path)
    for number in range(5):
        line.send(f"k{number}")
    processor, bench = line.replica(auto=False)
    async with running(processor) as task:
        await until(lambda: len(bench.held) == 5, task)
    assert len(line.results()) == 5


async def test_an_aborted_transaction_is_tried_again(tmp_path: Path) -> None:
    cluster = InMemory()
    line = Line(cluster, tmp_path, claims=cluster.topic(2))
    line.send("k")
    cluster.cluster.refuse_transactions(3)
    processor, _ = line.replica()
    async with running(processor) as task:
        await until(lambda: len(line.results()) == 1, task)
        assert cluster.cluster.committed(line.group, cluster.records(line.source)[0].partition).offset == 1
    assert line.results() == ["k"]


async def test_a_transaction_that_never_ends_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's library hangs in a commit: the replica gives itself up, and the next one does the work, once."""
    cluster = InMemory()
    line = Line(cluster, tmp_path, settings=ProcessorSettings(commit_s=0.01))
    line.send("k")
    released = threading.Event()
    broker = cluster.member(line.group, 0, [line.source])

    def hang(*_: object) -> dict[Partition, int]:
        released.wait()
        raise Fenced("too late")

    monkeypatch.setattr(broker, "commit", hang)
    stuck = Processor(broker, lambda finish: Bench(finish, line.target), line.settings, SystemClock(), stage="test")
    with pytest.raises(Fenced, match="did not end"):
        await stuck.run()
    released.set()
    line.settings = ProcessorSettings()
    processor, _ = line.replica()
    async with running(processor) as task:
        await until(lambda: len(line.results()) == 1, task)
    assert line.results() == ["k"]


async def test_urgent_outcomes_share_no_transaction_with_others(tmp_path: Path) -> None:
    cluster = InMemory()
    line = Line(cluster, tmp_path, partitions=1)
    for word in ("bulk", "urgent", "more"):
        line.send(word)
    processor, bench = line.replica(auto=False)
    async with running(processor) as task:
        await until(lambda: len(bench.held) == 3, task)
        bulk, urgent, more = bench.held
        bench.held = []
        bench.answer(bulk)
        bench.answer(urgent, urgent=True)
        bench.answer(more)
        await until(lambda: len(line.results()) == 3, task)
    target = cluster.records(line.target)
    assert [record.key for record in target] == [b"urgent", b"bulk", b"more"]


@pytest.mark.parametrize("more", [0, 2, 9])
async def test_claims_of_a_topic_that_was_made_anew_are_forgotten(more: int, tmp_path: Path) -> None:
    clock = SystemClock()
    before, after = InMemory(), InMemory()
    for cluster in (before, after):
        cluster.cluster.partitions |= {"claims": 1, "source": 1}
    claims = Claims("claims", "3M/first+5=", tmp_path, 7 * DAY_MS)
    for number in range(3):
        before.append(Outgoing("claims", b"k%d" % number, b"body"))
    claims.restore(before.member("g", 0, ["source"]), 0, int(clock.now() * 1000))
    assert claims.claim(0, b"k1", b"body").value == "copy"
    claims.close()
    # As long as the one before it, or longer: its length tells nothing.
    for number in range(more):
        after.append(Outgoing("claims", b"other%d" % number, b"body"))
    after.append(Outgoing("claims", b"new", b"body"))
    claims = Claims("claims", "second", tmp_path, 7 * DAY_MS)
    claims.restore(after.member("g", 0, ["source"]), 0, int(clock.now() * 1000))
    assert claims.claim(0, b"k1", b"body").value == "new"
    assert claims.claim(0, b"new", b"other").value == "conflict"
    claims.close()
    assert not any("first" in name for name in os.listdir(tmp_path))


async def test_a_claim_ends_after_its_time_though_its_partition_stays(tmp_path: Path) -> None:
    cluster = InMemory()
    cluster.cluster.partitions |= {"claims": 1, "source": 1}
    claims = Claims("claims", "id", tmp_path, 7 * DAY_MS)
    claims.restore(cluster.member("g", 0, ["source"]), 0, 0)
    place = Partition("claims", 0)
    for day, key in enumerate((b"old", b"young")):
        assert claims.claim(0, key, b"body").value == "new"
        claims.settle({0: [key]}, {place: day}, day * 6 * DAY_MS)
    assert claims.claim(0, b"last", b"body").value == "new"
    claims.settle({0: [b"last"]}, {place: 2}, 8 * DAY_MS)
    assert claims.claim(0, b"old", b"body").value == "new"
    assert claims.claim(0, b"young", b"body").value == "copy"
    claims.close()


async def test_an_unreadable_claims_file_is_made_again(tmp_path: Path) -> None:
    cluster = InMemory()
    cluster.cluster.partitions |= {"claims": 1, "source": 1}
    cluster.append(Outgoing("claims", b"k", b"body"))
    (tmp_path / "claims-0.id.sqlite").write_bytes(b"this is no database" * 1000)
    claims = Claims("claims", "id", tmp_path, 7 * DAY_MS)
    claims.restore(cluster.member("g", 0, ["source"]), 0, 0)
    assert claims.claim(0, b"k", b"body").value == "copy"
    claims.close()


def test_partition_of_a_moved_record_is_its_own() -> None:
    from millpond_core.processor.processor import moved_to_tail

    record = Record(Partition("t", 3), 7, 0, b"k", b"v", (("attempt", b"2"), ("a", b"b")))
    assert moved_to_tail(record) == Outgoing("t", b"k", b"v", (("a", b"b"), ("attempt", b"3")), 3)
