"""How many rows an engine is given at the same time, by how long they wait inside it. Pure.

Source: additive increase, multiplicative decrease: Chiu and Jain 1989; as TCP does, one cut for each round trip.
"""

from __future__ import annotations

from millpond_batcher.plan import Policy

CUT = 0.75
"""What is left of the limit where rows wait for too long: a queue drains, and the engine does not stand empty."""


class Limit:
    """rows: at first, and the most. least: what is always given. spare: places that are left free where a limit is used
    up: those that are kept for others, and those that are not filled one by one. target_s: seconds that a row may wait
    in the engine.

    An engine that does not say how long its rows waited is given the most.
    """

    def __init__(self, rows: int, *, least: int, spare: int, target_s: float) -> None:
        self._most = rows
        self._least = min(least, rows)
        self._spare = spare
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
        elif running > self.rows - self._spare:
            # One more row for each limit's worth of rows that came back in time, and only where it was used.
            self._value = min(self._value + 1 / self._value, self._most)


def limit_of(policy: Policy, rows: int, target_s: float) -> Limit:
    """Of a replica that runs so many rows and is filled by such a policy."""
    return Limit(
        rows,
        # Fewer than what realtime has for itself and one more would let nothing else run.
        least=policy.reserved_rows + 1,
        # More bulk is sent only where refill_rows of its places are free.
        spare=policy.reserved_rows + policy.refill_rows,
        target_s=target_s,
    )
