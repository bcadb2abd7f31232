"""What is urgent goes on before a flood, once, and the rest in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from millpond.v1 import request_pb2
from millpond_core.clock import ManualClock
from millpond_core.json_codec import encode
from millpond_core.processor import Outgoing, Partition, Record
from millpond_core.processor.memory_broker import MemoryCluster
from millpond_core.settings import TierSettings
from millpond_router.ahead import FAR_BEHIND, LEAD_MS, WATCH_S, Ahead, latest_ms

TOPIC = "ai.requests"
HERE = Partition(TOPIC, 0)
LONG_S = 10.0
"""Far beyond what a step takes: a hang's bound."""


@dataclass
class Bench:
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000.0))
    routed: list[int] = field(default_factory=list[int])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.cluster = MemoryCluster({TOPIC: 1}, self.clock)
        member = self.cluster.member("router", 0, [TOPIC])
        latest = latest_ms(TierSettings(), 10_000)
        self.ahead = Ahead(member.reader(), latest, self._route, self._end, self.clock)

    def send(self, tier: request_pb2.Tier, count: int = 1, deadline_s: float | None = None) -> None:
        request = request_pb2.Request(tier=tier, messages=[request_pb2.Message(role="user", content="hello")])
        if deadline_s is not None:
            request.deadline.FromMilliseconds(round(deadline_s * 1000))
        for _ in range(count):
            self.cluster.append(Outgoing(TOPIC, None, encode(request), ()))

    def reach(self, first: int, end: int) -> list[int]:
        records = self.cluster.records(TOPIC)[first:end]
        return [each.offset for each in self.ahead.reached(records)]

    async def until_routed(self, count: int) -> None:
        """Let the reading ahead run, a watch's time at a turn, until so many were routed by it."""
        running = asyncio.create_task(self.ahead.run())
        async with asyncio.timeout(LONG_S):
            while len(self.routed) < count:
                self.clock.advance(WATCH_S)
                self.changed.clear()
                await asyncio.wait((running, asyncio.create_task(self.changed.wait())), timeout=WATCH_S / 10)
                if running.done():
                    await running
        running.cancel()

    async def _route(self, records: Sequence[Record]) -> None:
        self.routed += [each.offset for each in records]
        self.changed.set()

    def _end(self, partition: Partition) -> int:
        assert partition == HERE
        return len(self.cluster.records(TOPIC))


async def test_what_is_realtime_or_nearly_due_goes_on_before_a_flood_and_only_once() -> None:
    bench = Bench()
    bench.send(request_pb2.TIER_OVERNIGHT, FAR_BEHIND + 10)
    bench.send(request_pb2.TIER_REALTIME)
    bench.send(request_pb2.TIER_STANDARD)
    bench.send(request_pb2.TIER_STANDARD, deadline_s=1000.0 + LEAD_MS / 2000)
    assert bench.reach(0, 2) == [0, 1]
    await bench.until_routed(2)
    urgent = [FAR_BEHIND + 10, FAR_BEHIND + 12]
    assert bench.routed == urgent
    rest = range(2, FAR_BEHIND + 13)
    assert bench.reach(2, FAR_BEHIND + 13) == [each for each in rest if each not in urgent]


async def test_a_deadline_that_comes_near_while_it_waits_is_seen() -> None:
    bench = Bench()
    bench.send(request_pb2.TIER_OVERNIGHT, FAR_BEHIND + 10)
    bench.send(request_pb2.TIER_STANDARD, deadline_s=1000.0 + LEAD_MS / 1000 + 5 * WATCH_S)
    bench.reach(0, 1)
    await bench.until_routed(1)
    assert bench.routed == [FAR_BEHIND + 10]
    assert bench.clock.now() >= 1000.0 + 5 * WATCH_S


async def test_who_is_not_far_behind_reads_nothing_ahead() -> None:
    bench = Bench()
    bench.send(request_pb2.TIER_REALTIME, FAR_BEHIND)
    bench.reach(0, 1)
    running = asyncio.create_task(bench.ahead.run())
    for _ in range(20):
        bench.clock.advance(WATCH_S)
        await asyncio.sleep(0)
    running.cancel()
    assert bench.ahead.idle
    assert bench.routed == []


async def test_a_partition_that_was_lost_and_won_again_is_routed_from_its_position() -> None:
    bench = Bench()
    bench.send(request_pb2.TIER_OVERNIGHT, FAR_BEHIND)
    bench.send(request_pb2.TIER_REALTIME, 2)
    bench.reach(0, 1)
    await bench.until_routed(2)
    bench.ahead.lost([HERE])
    assert bench.reach(0, FAR_BEHIND + 2) == list(range(FAR_BEHIND + 2))
