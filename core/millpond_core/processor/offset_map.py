"""Which records of one partition are finished, and how that is written beside the committed offset. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

METADATA_CHARACTERS = 4095
"""What the broker takes; one more is refused (`offset.metadata.max.bytes`)."""

RUN_CHARACTERS = 12
"""What a run of one record takes at most, where hundreds of millions of offsets lie before it."""

TRACKED = 20_000
"""Records that one map keeps; more make every commit slow."""

_RUNS = re.compile(r"(?:[0-9]+\+[0-9]+(?:,[0-9]+\+[0-9]+)*)?")


@dataclass(slots=True)
class _Ahead:
    following: int
    finished: bool = False


class OffsetMap:
    """Records are taken in the order of their offsets, but for some ahead of their turn, and finished in any order.

    The group's position is the first record that is not finished. What is finished beyond it is written into the
    commit's metadata as runs: "2+3,1+4" says that after 2 offsets come 3 finished ones, then after 1 come 4. Offsets
    that hold no record (transaction markers, compacted ones) belong to the run around them.
    """

    def __init__(self, offset: int, metadata: str = "") -> None:
        """Go on from a committed position. Raises ValueError for metadata that this class did not write."""
        self._next = offset
        self._taken: dict[int, bool] = {}
        """Offset → whether it is finished, in ascending order; the first one is not finished."""
        self._ahead: dict[int, _Ahead] = {}
        """What was taken ahead of its turn, by offset; none is below `_next`."""
        self._unfinished = 0
        """Of `_taken`."""
        self._restored = _decode(offset, metadata)
        """Runs [first, end) finished before this map was made, that were not read again yet."""
        self._written = len(metadata)
        """Characters of the last position."""

    def take(self, offset: int) -> bool:
        """Note that the record was read in its turn. False where it is finished, or in hand, already.

        Raises ValueError out of order.
        """
        if offset < self._next:
            raise ValueError(f"offset {offset} came after {self._next - 1}")
        self._next = offset + 1
        while self._restored and self._restored[0][1] <= offset:
            self._restored.pop(0)
        ahead = self._ahead.pop(offset, None)
        finished = ahead.finished if ahead else bool(self._restored) and self._restored[0][0] <= offset
        if finished and not self._taken:
            return False
        self._taken[offset] = finished
        self._unfinished += not finished
        return not finished and ahead is None

    def take_ahead(self, offset: int, following: int) -> bool:
        """Note that a record was read before its turn. False where it is finished, or in hand, already.

        following: the offset of the record after it, as far as is known; at least offset + 1.
        """
        if offset < self._next or offset in self._ahead or any(a <= offset < b for a, b in self._restored):
            return False
        self._ahead[offset] = _Ahead(following)
        return True

    def position(self, finished: Collection[int] = ()) -> tuple[int, str]:
        """(offset, metadata) to commit once these are finished too. Does not note that they are."""
        first = next((offset for offset, done in self._taken.items() if not (done or offset in finished)), self._next)
        runs = self._runs(first, finished)
        if runs and runs[0][0] == first:
            # What was finished before its turn, and is the next to be read: nothing may follow that moves the position.
            first, runs = runs[0][1], runs[1:]
        metadata = _encode(first, runs)
        self._written = len(metadata)
        return first, metadata

    def finish(self, finished: Collection[int]) -> None:
        """Note that these are finished. Raises KeyError for one that was not taken."""
        for offset in finished:
            if ahead := self._ahead.get(offset):
                ahead.finished = True
            else:
                self._unfinished -= not self._taken[offset]
                self._taken[offset] = True
        done: list[int] = []
        for offset, is_done in self._taken.items():
            if not is_done:
                break
            done.append(offset)
        for offset in done:
            del self._taken[offset]

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        return self._unfinished + sum(not ahead.finished for ahead in self._ahead.values())

    @property
    def following(self) -> int:
        """The offset that is read next."""
        return self._next

    def oldest(self, count: int = 1) -> list[int]:
        """The first unfinished records of those taken in their turn: what holds the position back."""
        return list(islice((offset for offset, done in self._taken.items() if not done), count))

    @property
    def blocked(self) -> bool:
        """Whether something beyond the oldest record is finished."""
        return (
            len(self._taken) > self._unfinished
            or bool(self._restored)
            or any(ahead.finished for ahead in self._ahead.values())
        )

    @property
    def fullness(self) -> float:
        """How much of what a map may hold the last position did hold; at 1 the next commit may fail."""
        return max(self._written / METADATA_CHARACTERS, (len(self._taken) + len(self._ahead)) / TRACKED)

    def room(self, fullness: float) -> int:
        """How many more records may be taken ahead of their turn before the map is fuller than this: each may come to
        be a run of its own, those that are in hand too.
        """
        coming = sum(not ahead.finished for ahead in self._ahead.values())
        return max(int((fullness * METADATA_CHARACTERS - self._written) / RUN_CHARACTERS) - coming, 0)

    def _runs(self, first: int, finished: Collection[int]) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        start: int | None = None
        for offset, done in self._taken.items():
            if offset < first:
                continue
            if done or offset in finished:
                start = offset if start is None else start
            elif start is not None:
                runs.append((start, offset))
                start = None
        if start is not None:
            runs.append((start, self._next))
        done_ahead = [(offset, each) for offset, each in self._ahead.items() if each.finished or offset in finished]
        beyond = [*self._restored, *((offset, each.following) for offset, each in done_ahead)]
        for restored, end in sorted(beyond):
            begin = max(restored, self._next, first)
            if runs and begin <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
            elif begin < end:
                runs.append((begin, end))
        return runs


def _encode(first: int, runs: list[tuple[int, int]]) -> str:
    words: list[str] = []
    for begin, end in runs:
        words.append(f"{begin - first}+{end - begin}")
        first = end
    return ",".join(words)


def _decode(first: int, metadata: str) -> list[tuple[int, int]]:
    if not _RUNS.fullmatch(metadata):
        raise ValueError(f"not an offset map: {metadata[:80]!r}")
    runs: list[tuple[int, int]] = []
    for word in metadata.split(",") if metadata else []:
        gap, length = (int(number) for number in word.split("+"))
        runs.append((first + gap, first + gap + length))
        first += gap + length
    return runs
