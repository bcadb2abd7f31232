"""What cannot wait for its turn on ai.requests goes on before it.

The embedder is the router's bottleneck, so a flood keeps all that comes behind it waiting, a realtime request too.
Where a partition is far behind, a scout reads on in it, and what is realtime or near its deadline is routed at once;
its turn, when it comes, is skipped. A router that died in between routes it again, and the claim behind drops the copy.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from millpond.v1 import request_pb2
from millpond_core import metrics
from millpond_core.clock import Clock
from millpond_core.codec import CONTENT_TYPE, decode_request
from millpond_core.errors import Malformed
from millpond_core.processor import NEVER, Partition, Record, header
from millpond_core.processor.broker import Reader
from millpond_core.processor.scout import Scout
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

UNREAD_RECORDS = 1_000_000
"""Of which a row of 53 bytes is kept, all partitions together."""

MOST_URGENT = 1000
"""Records that are kept from reading to sending; a megabyte each at most. Those beyond are read again."""

MOST_SENT = 100_000
"""Records of one partition that were sent ahead of their turn and are not reached yet; some 8 MB. Beyond, all wait."""

NOT_ASKED = (0,) * (len(ROW.names or ()) - 2)
"""The fields of a row after offset and deadline."""

Route = Callable[[Sequence[Record]], Awaitable[None]]
"""Returns when what became of these records is written."""

End = Callable[[Partition], int | None]
"""The offset after a partition's last record, as it was when the partition was last read; None where it never was, or
where it is not this replica's."""

Latest = Callable[[Record], int]
"""When a request is to be taken ahead, in milliseconds since 1970."""


class Ahead:
    """Called from the event loop."""

    def __init__(self, reader: Reader, latest: Latest, route: Route, end: End, clock: Clock) -> None:
        self._scout = Scout(reader, self._described, UNREAD_RECORDS)
        self._latest = latest
        self._route = route
        self._end = end
        self._clock = clock
        self._following: dict[Partition, int] = {}
        self._sent: defaultdict[Partition, set[int]] = defaultdict(set)
        self._urgent: deque[Record] = deque()
        """What was urgent when it was read: it need not be read again."""

    @property
    def idle(self) -> bool:
        """Whether nothing is read ahead."""
        return self._scout.idle

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
            self._watch()
            if self._scout.idle:
                await asyncio.sleep(WATCH_S)
                continue
            await self._scout.look()
            await self._send([self._urgent.popleft() for _ in range(len(self._urgent))])
            for partition in list(self._following):
                await self._take(partition)

    async def close(self) -> None:
        await self._scout.close()

    def _watch(self) -> None:
        for partition, following in self._following.items():
            end = self._end(partition)
            if end is not None and end - following >= FAR_BEHIND:
                self._scout.watch(partition, following)
            elif end is not None and end - following < FAR_BEHIND // 2:
                self._scout.leave(partition)

    async def _take(self, partition: Partition) -> None:
        """Send on what has become urgent since it was read."""
        unread = self._scout.unread(partition)
        if unread is None or len(self._sent[partition]) >= MOST_SENT:
            return
        unread.drop_before(self._following[partition])
        wanted = unread.overdue(int(self._clock.now() * 1000))[:AT_ONCE]
        if wanted:
            records = await self._scout.fetch(partition, wanted)
            for record in records:
                unread.forget(record.offset)
            await self._send(records)

    async def _send(self, records: Sequence[Record]) -> None:
        # What was reached meanwhile, or is another replica's, is routed there.
        waiting = [each for each in records if self._waits(each)]
        if waiting:
            await self._route(waiting)
            metrics.RECORDS_TAKEN_AHEAD.labels(SERVICE).inc(len(waiting))
        for each in waiting:
            if self._waits(each):
                self._sent[each.partition].add(each.offset)

    def _waits(self, record: Record) -> bool:
        return record.offset >= self._following.get(record.partition, NEVER)

    def _described(self, record: Record) -> tuple[int, ...]:
        """A row of `processor.unread.ROW`, of which the router fills offset and deadline. In the scout's thread."""
        latest = self._latest(record)
        if latest <= self._clock.now() * 1000 and len(self._urgent) < MOST_URGENT:
            self._urgent.append(record)
            latest = NEVER
        return record.offset, latest, *NOT_ASKED


def latest_ms(tiers: TierSettings, max_bytes: int) -> Latest:
    """At once for what is realtime, and for all else a while before its deadline."""

    def latest(record: Record) -> int:
        try:
            request, _ = decode_request(record.value, header(record.headers, CONTENT_TYPE), max_bytes)
        except Malformed:
            return NEVER
        if request.tier == request_pb2.TIER_REALTIME:
            return 0
        if request.HasField("deadline"):
            return request.deadline.ToMilliseconds() - LEAD_MS
        return record.timestamp_ms + round(tiers.seconds(request.tier) * 1000) - LEAD_MS

    return latest
