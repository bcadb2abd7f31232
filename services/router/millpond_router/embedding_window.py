"""How much the embedder is asked at the same time. Pure: the clock is given, in seconds that only grow.

An urgent request has 250 ms, so the embedder is to hold no more rows than it does in that time: some ten on a CPU that
a language model shares, hundreds on a GPU. What is not asked yet waits, as more does in Kafka.
"""

from __future__ import annotations

SMALLEST = 2
"""Rows: on a machine that is busy with a language model, an embedder may do no more in its time."""

LARGEST = 512
"""Rows: more in flight make no batch fuller."""

STEP = 8
"""Rows that the window grows by when all that is in it was answered early."""

EARLY, LATE = 1 / 3, 2 / 3
"""Shares of the time that an urgent call has: the window grows before the first and shrinks after the second, so that
hardly any call runs out of time (as TCP Vegas finds its window, by delay, before anything is lost)."""

SILENT_S = 2.0
"""Without any answer for so long, an embedder is away, not slow."""

PAUSE_S = 1.0
"""How long an embedder that is away is not asked: requests then go on without waiting for it."""


class EmbeddingWindow:
    """rows: how many may be in flight. timeout_s: what an urgent call has."""

    def __init__(self, timeout_s: float, rows: float = 8) -> None:
        self.rows = rows
        self._timeout_s = timeout_s
        self._in_flight = 0
        self._silent_since: float | None = None
        self._closed_until = float("-inf")

    def closed(self, now: float) -> bool:
        return now < self._closed_until

    def room(self, wanted: int) -> int:
        """How many rows may be asked in a call now; 0 where it is better to wait.

        A call takes half of the window, so that one is on its way while another is computed. What is left beside them
        is not asked row by row: small calls cost the embedder more a row (as TCP's silly window, RFC 813).
        """
        most = max(1, int(self.rows) // 2)
        rows = min(wanted, most, int(self.rows) - self._in_flight)
        return rows if rows in (wanted, most) or 2 * rows >= most else 0

    def asked(self, rows: int, now: float) -> None:
        self._in_flight += rows
        if self._silent_since is None:
            self._silent_since = now

    def answered(self, rows: int, took_s: float) -> None:
        self._in_flight -= rows
        self._silent_since = None
        change = STEP * rows / self.rows
        if took_s < EARLY * self._timeout_s:
            self.rows = min(LARGEST, self.rows + change)
        elif took_s > LATE * self._timeout_s:
            self.rows = max(SMALLEST, self.rows - change)

    def failed(self, rows: int, took_s: float, now: float) -> None:
        """A call was refused, or ran out of time."""
        self._in_flight -= rows
        refused = took_s < self._timeout_s
        if refused or (self._silent_since is not None and now - self._silent_since >= SILENT_S):
            self._closed_until = now + PAUSE_S
        self.rows = max(SMALLEST, self.rows / 2)
