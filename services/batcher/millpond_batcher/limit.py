"""How many rows an engine is given at the same time, by how long they wait inside it. Pure.

Source: additive increase, multiplicative decrease: Chiu and Jain 1989; as TCP does, one cut for each round trip.
"""

from __future__ import annotations

CUT = 0.75
"""What is left of the limit where rows wait for too long: a queue drains, and the engine does not stand empty."""


class Limit:
    """rows: at first, and the most. least: what is always given; all but one of them are kept free of bulk, so that a
    limit is used up where no more than they are left. target_s: seconds that a row may wait in the engine.

    An engine that does not say how long its rows waited is given the most.
    """

    def __init__(self, rows: int, *, least: int, target_s: float) -> None:
        self._most = rows
        self._least = min(least, rows)
        self._target_s = target_s
        self._value = float(rows)
        self._cut_at_s = float("-inf")

    @property
    def rows(self) -> int:
        return int(self._value)

    def answered(self, *, sent_s: float, now: float, waited_s: float, running: int) -> None:
        """A row came back. sent_s, now: on one clock. running: rows in the engine, this one included."""
        if waited_s > self._target_s:
            # What was sent before the last cut waited in the queue that the cut is to drain.
            if sent_s >= self._cut_at_s:
                self._value = max(self._value * CUT, self._least)
                self._cut_at_s = now
        elif running > self.rows - self._least:
            # One more row for each limit's worth of rows that came back in time, and only where it was used.
            self._value = min(self._value + 1 / self._value, self._most)
