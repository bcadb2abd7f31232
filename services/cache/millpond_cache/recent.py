"""The answers of the last minute: Milvus, read with bounded consistency, shows them some seconds late.

They are this replica's own: with several, a repeat that comes to another one in those seconds is a miss.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from millpond_cache.store import Entry, Which

SEEN_S = 60.0
"""Seconds after which Milvus shows an entry (5 by default), with room. Not longer: another replica may have learned a
newer answer since."""

ENTRY_BYTES = 1500
"""What an entry takes besides its texts."""


class Recent:
    """Entries by key, the newest kept. most_bytes: of all together, measured roughly."""

    def __init__(self, most_bytes: float) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[float, Entry]] = OrderedDict()

    def remember(self, entry: Entry, now: float) -> None:
        self._forget(entry.key)
        self._entries[entry.key] = (now, entry)
        self._bytes += _size(entry)
        while self._entries and (self._bytes > self._most_bytes or self._oldest() < now - SEEN_S):
            self._forget(next(iter(self._entries)))

    def get(self, key: str, now: float) -> Entry | None:
        learned_at, entry = self._entries.get(key, (0.0, None))
        return entry if learned_at >= now - SEEN_S else None

    def forget(self, which: Which) -> None:
        for key in [key for key, (_, entry) in self._entries.items() if which.fits(entry)]:
            self._forget(key)

    def _oldest(self) -> float:
        return next(iter(self._entries.values()))[0]

    def _forget(self, key: str) -> None:
        if found := self._entries.pop(key, None):
            self._bytes -= _size(found[1])


MOST_SINGLE = 100_000
"""Orders to forget one request's answer that are remembered, the latest."""

MOST_BROAD = 200
"""The same of all other orders: each is compared with each entry that is looked at."""


class Forgotten:
    """What was ordered to be forgotten, and is not to be given although Milvus may still show it, nor to be learned."""

    def __init__(self) -> None:
        self._single: OrderedDict[tuple[str, str], Which] = OrderedDict()
        """By tenant and source_id, where nothing else is said."""
        self._broad: OrderedDict[Which, None] = OrderedDict()

    def forget(self, which: Which) -> None:
        if which == Which(tenant=which.tenant, source_id=which.source_id, older_than=which.older_than) and (
            which.tenant and which.source_id
        ):
            self._single[which.tenant, which.source_id] = which
            _shorten(self._single, MOST_SINGLE)
        else:
            self._broad[which] = None
            _shorten(self._broad, MOST_BROAD)

    def hides(self, entry: Entry) -> bool:
        single = self._single.get((entry.tenant, entry.source_id))
        return (single is not None and single.fits(entry)) or any(which.fits(entry) for which in self._broad)


def _shorten(orders: OrderedDict[Any, Any], most: int) -> None:
    while len(orders) > most:
        orders.popitem(last=False)


def _size(entry: Entry) -> int:
    # Python keeps up to four bytes a character.
    return ENTRY_BYTES + 4 * (len(entry.text) + len(entry.output))
