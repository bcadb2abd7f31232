"""What waits in one partition and was not taken yet: a few bytes for each record, by the order of its offset. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max
"""The deadline of a record that names none."""

ROW = np.dtype(
    [
        ("offset", np.int64),
        ("deadline_ms", np.int64),
        ("key", np.uint64),
        ("tenant", np.uint64),
        ("model", np.uint64),
        ("batch", np.uint64),
        ("tokens", np.uint32),
        ("tier", np.uint8),
    ]
)
"""One record: 53 bytes. key, tenant, model and batch are marks (`mark_of`); deadline_ms is since 1970; tokens are those
of prompt and answer; tier is the number of `millpond.v1.Tier`, 0 for none."""

_FIRST_ROWS = 1024


def mark_of(text: bytes) -> int:
    """64 bits that stand for a key, a tenant, a model or a batch inside this process; another process has others."""
    # Python's hash is keyed anew in each process, so that nobody can choose texts that share one.
    return hash(text) & 0xFFFF_FFFF_FFFF_FFFF


class Unread:
    """Rows of one partition. Records that the marks confuse are told apart when they are read."""

    def __init__(self) -> None:
        self._rows = np.empty(_FIRST_ROWS, ROW)
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def rows(self) -> NDArray[np.void]:
        """By offset. A view: it holds until the next change."""
        return self._rows[self._start : self._end]

    def append(self, rows: NDArray[np.void]) -> None:
        """Add what was read on; of offsets that are there already, nothing."""
        if len(self) and len(rows):
            rows = rows[rows["offset"] > self._rows["offset"][self._end - 1]]
        if self._end + len(rows) > len(self._rows):
            kept = self.rows
            grown = np.empty(max(2 * (len(kept) + len(rows)), _FIRST_ROWS), ROW)
            grown[: len(kept)] = kept
            self._rows, self._start, self._end = grown, 0, len(kept)
        self._rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def drop_before(self, offset: int) -> None:
        """Those were taken in their turn."""
        self._start += int(np.searchsorted(self.rows["offset"], offset))

    def overdue(self, now_ms: int) -> list[int]:
        """Offsets of those whose deadline has passed, in ascending order."""
        rows = self.rows
        return rows["offset"][rows["deadline_ms"] <= now_ms].tolist()

    def overtaking(self, tier: int) -> list[int]:
        """Offsets of those of this tier that wait behind another tier's, in ascending order."""
        rows = self.rows
        others = np.flatnonzero((rows["tier"] != tier) & (rows["tier"] != 0))
        if not len(others):
            return []
        behind = rows[others[0] :]
        return behind["offset"][behind["tier"] == tier].tolist()

    def having(self, column: Literal["key", "batch"], texts: Collection[bytes]) -> list[int]:
        """Offsets of those of which this may be one of these texts, in ascending order."""
        rows = self.rows
        marks = np.fromiter((mark_of(text) for text in texts), np.uint64, len(texts))
        return rows["offset"][np.isin(rows[column], marks)].tolist()

    def waiting(self, without: Collection[bytes]) -> NDArray[np.void]:
        """Rows of those that were not taken, and whose batch is none of these."""
        rows = self.rows
        rows = rows[rows["deadline_ms"] != NEVER]
        if not without:
            return rows
        marks = np.fromiter((mark_of(text) for text in without), np.uint64, len(without))
        return rows[np.isin(rows["batch"], marks, invert=True)]

    def following(self, offset: int) -> int:
        """The offset of the next record after this one, as far as is known."""
        rows = self.rows
        place = int(np.searchsorted(rows["offset"], offset, side="right"))
        return int(rows["offset"][place]) if place < len(rows) else offset + 1

    def forget(self, offset: int) -> None:
        """It was taken, or is no record any more: it is not to be found again."""
        rows = self.rows
        place = int(np.searchsorted(rows["offset"], offset))
        if place < len(rows) and rows["offset"][place] == offset:
            rows["deadline_ms"][place] = NEVER
            rows["key"][place] = rows["batch"][place] = rows["tier"][place] = 0
