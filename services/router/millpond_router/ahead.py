"""What cannot wait for its turn on ai.requests goes on before it.

The embedder is the router's bottleneck, so a flood keeps all that comes behind it waiting, a realtime request too.
Where a partition is far behind, a scout reads on in it, and what is realtime or near its deadline is routed at once;
its turn, when it comes, is skipped. A router that died in between routes it again, and the claim behind drops the copy.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from millpond.v1 import request_pb2
from millpond_core import metrics
from millpond_core.clock import Clock
from millpond_core.codec import CONTENT_TYPE, decode_request
from millpond_core.errors import Malformed
from millpond_core.processor import NEVER, Partition, Record, header
from millpond_core.processor.scout import Describe, Scout
from millpond_core.processor.unread import ROW
from millpond_core.settings import TierSettings
from millpond_router.routing import SERVICE

WATCH_S = 0.25
"""Seconds between two looks how far behind the partitions are."""

FAR_BEHIND = 100
"""Records of one partition that wait unread from which on it is read ahead, until there are half as many."""

LEAD_MS = 30_000
"""How long before its deadline a request is taken ahead: the stages behind have work with it too."""

AT_ONCE = 64
"""Records that are taken ahead together."""

MOST_SENT = 100_000
"""Records of one partition that were sent ahead of their turn and are not reached yet; some 8 MB. Beyond, all wait."""

NOT_ASKED = (0,) * (len(ROW.names or ()) - 2)
"""The fields of a row after offset and deadline."""

Route = Callable[[Sequence[Record]], Awaitable[None]]
"""Returns when what became of these records is written."""

Ends = Callable[[Iterable[Partition]], Awaitable[Mapping[Partition, int]]]
"""The offsets after the last records of these."""


class Ahead:
    """Called from the event loop."""

    def __init__(self, scout: Scout, route: Route, ends: Ends, clock: Clock) -> None:
        self._scout = scout
        self._route = route
        self._ends = ends
        self._clock = clock
        self._following: dict[Partition, int] = {}
        self._sent: defaultdict[Partition, set[int]] = defaultdict(set)
        self._looked_at = 0.0

    def reached(self, records: Sequence[Record]) -> list[Record]:
        """The turn of these has come. Returns those that were not sent on before it."""
        for record in records:
            self._following[record.partition] = record.offset + 1
        fresh = [each for each in records if each.offset not in self._sent[each.partition]]
        for each in records:
            self._sent[each.partition].discard(each.offset)
        return fresh

    def lost(self, partitions: Iterable[Partition]) -> None:
        """These are another replica's."""
        for partition in partitions:
            self._scout.leave(partition)
            self._following.pop(partition, None)
            self._sent.pop(partition, None)

    async def run(self) -> None:
        """For ever. Raises what routing raises."""
        while True:
            await self._watch()
            if self._scout.idle:
                await asyncio.sleep(WATCH_S)
                continue
            await self._scout.look()
            for partition in list(self._following):
                await self._take(partition)

    async def close(self) -> None:
        await self._scout.close()

    async def _watch(self) -> None:
        now = self._clock.now()
        if not self._following or now - self._looked_at < WATCH_S:
            return
        self._looked_at = now
        for partition, end in (await self._ends(tuple(self._following))).items():
            following = self._following.get(partition)
            if following is None:
                continue
            if end - following >= FAR_BEHIND:
                self._scout.watch(partition, following)
            elif end - following < FAR_BEHIND // 2:
                self._scout.leave(partition)

    async def _take(self, partition: Partition) -> None:
        unread = self._scout.unread(partition)
        if unread is None or len(self._sent[partition]) >= MOST_SENT:
            return
        unread.drop_before(self._following[partition])
        wanted = unread.overdue(int(self._clock.now() * 1000))[:AT_ONCE]
        if not wanted:
            return
        records = await self._scout.fetch(partition, wanted)
        for record in records:
            unread.forget(record.offset)
        # What was reached meanwhile, or is another replica's, is routed there.
        waiting = [each for each in records if each.offset >= self._following.get(partition, NEVER)]
        await self._route(waiting)
        metrics.RECORDS_TAKEN_AHEAD.labels(SERVICE).inc(len(waiting))
        following = self._following.get(partition, NEVER)
        self._sent[partition].update(each.offset for each in waiting if each.offset >= following)


def described(tiers: TierSettings, max_bytes: int) -> Describe:
    """Rows of `processor.unread.ROW`, of which the router fills offset and deadline: when to take a request ahead."""

    def describe(record: Record) -> tuple[int, ...]:
        return record.offset, _latest_ms(record, tiers, max_bytes), *NOT_ASKED

    return describe


def _latest_ms(record: Record, tiers: TierSettings, max_bytes: int) -> int:
    try:
        request, _ = decode_request(record.value, header(record.headers, CONTENT_TYPE), max_bytes)
    except Malformed:
        return NEVER
    if request.tier == request_pb2.TIER_REALTIME:
        return 0
    if request.HasField("deadline"):
        return request.deadline.ToMilliseconds() - LEAD_MS
    return record.timestamp_ms + round(tiers.seconds(request.tier) * 1000) - LEAD_MS
