"""Reads ahead where records wait, so that what is known of them does not depend on their turn.

A paused consumer knows nothing of what it has not read. The scout reads it, with connections and a thread of its own,
keeps a row for each record (`unread.py`) and no body; a record that is wanted before its turn is read by its offset.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from millpond_core.processor.broker import Reader
from millpond_core.processor.record import Partition, Record
from millpond_core.processor.unread import ROW, Unread

Value = TypeVar("Value")

LOOK_RECORDS = 2000
"""Records read at one look: some 10 ms of parsing headers."""

LOOK_S = 0.25
"""Seconds that a look waits where nothing comes."""

Describe = Callable[[Record], tuple[int, ...]]
"""A record's row: the fields of `unread.ROW`, in their order."""


class Scout:
    """Called from the event loop."""

    def __init__(self, reader: Reader, describe: Describe, most: int) -> None:
        """most: rows that are kept, of all partitions together; beyond it nothing is read ahead."""
        self._reader = reader
        self._describe = describe
        self._most = most
        self._tables: dict[Partition, Unread] = {}
        self._thread = ThreadPoolExecutor(1, "scout")
        self._watched: dict[Partition, Unread] = {}
        """What the reader follows, in the thread: a partition that was left and is watched again has another table."""
        self._changes: list[Callable[[], None]] = []

    def watch(self, partition: Partition, start: int) -> None:
        """Read this partition ahead, from this offset on; no change where that is done already."""
        if partition in self._tables:
            return
        table = self._tables[partition] = Unread()

        def follow() -> None:
            self._watched[partition] = table
            self._reader.follow(partition, start)

        self._changes.append(follow)

    def leave(self, partition: Partition) -> None:
        if self._tables.pop(partition, None) is None:
            return

        def leave() -> None:
            del self._watched[partition]
            self._reader.leave(partition)

        self._changes.append(leave)

    def unread(self, partition: Partition) -> Unread | None:
        return self._tables.get(partition)

    @property
    def rows(self) -> int:
        return sum(len(table) for table in self._tables.values())

    @property
    def idle(self) -> bool:
        return not self._tables and not self._changes

    async def look(self) -> None:
        """Read on in what is watched."""
        full = self.rows >= self._most
        if full:
            await asyncio.sleep(LOOK_S)
        changes, self._changes = self._changes, []
        for table, rows in await self._in_thread(lambda: self._read(changes, 0 if full else LOOK_RECORDS)):
            table.append(rows)

    async def fetch(self, partition: Partition, offsets: Sequence[int]) -> Sequence[Record]:
        """The records at these ascending offsets, as far as they can be had."""
        return await self._in_thread(lambda: self._reader.fetch(partition, offsets))

    async def close(self) -> None:
        await self._in_thread(self._reader.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, function: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _read(self, changes: Sequence[Callable[[], None]], count: int) -> list[tuple[Unread, NDArray[np.void]]]:
        for change in changes:
            change()
        if not count:
            return []
        rows: dict[Partition, list[tuple[int, ...]]] = defaultdict(list)
        for record in self._reader.poll(count, LOOK_S):
            rows[record.partition].append(self._describe(record))
        return [(self._watched[each], np.array(found, ROW)) for each, found in rows.items() if each in self._watched]
