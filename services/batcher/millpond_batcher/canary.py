"""The first answers of a batch stand for the rest: where too many of them fail their checks, the rest is held. Pure.

A systematic error in a thousand prompts (a wrong template, a schema that no answer meets) is seen after twenty.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millpond_core.batch_name import BatchName

MOST_BATCHES = 10_000
"""Batches that are remembered; of more, the one not heard of for the longest is forgotten, and is tried anew."""


@dataclass
class _Trial:
    sent: int = 0
    judged: int = 0
    failed: int = 0
    state: Literal["trying", "open", "held"] = "trying"


class Canary:
    """rows: of a batch that are answered before the rest is sent. most_failed: the share of them that may fail."""

    def __init__(self, rows: int, most_failed: float) -> None:
        self._rows = rows
        self._most_failed = most_failed
        self._trials: OrderedDict[BatchName, _Trial] = OrderedDict()

    def admit(self, batch: BatchName) -> bool:
        """Whether one more of its requests may be sent now; it counts as sent."""
        trial = self._trial(batch)
        if trial.state == "open":
            return True
        if trial.state == "held" or trial.sent >= self._rows:
            return False
        trial.sent += 1
        return True

    def withdraw(self, batch: BatchName) -> None:
        """A request that was admitted has no verdict: it expired, was cancelled, or its call failed."""
        trial = self._trial(batch)
        if trial.state == "trying":
            trial.sent = max(trial.sent - 1, trial.judged)

    def judge(self, batch: BatchName, *, failed: bool) -> Literal["trying", "open", "held"]:
        """An answer was checked. What it makes of the batch."""
        trial = self._trial(batch)
        if trial.state == "trying":
            trial.judged += 1
            trial.failed += failed
            if trial.failed > self._most_failed * self._rows:
                trial.state = "held"
            elif trial.judged >= self._rows:
                trial.state = "open"
        return trial.state

    def resume(self, batch: BatchName) -> None:
        """Send the rest whatever its checks say: somebody looked at it."""
        self._trial(batch).state = "open"

    def forget(self, batch: BatchName) -> None:
        """It is over."""
        self._trials.pop(batch, None)

    def is_held(self, batch: BatchName) -> bool:
        trial = self._trials.get(batch)
        return trial is not None and trial.state == "held"

    @property
    def held(self) -> Sequence[BatchName]:
        """Batches whose rest is held."""
        return [batch for batch, trial in self._trials.items() if trial.state == "held"]

    def _trial(self, batch: BatchName) -> _Trial:
        trial = self._trials.setdefault(batch, _Trial())
        self._trials.move_to_end(batch)
        if len(self._trials) > MOST_BATCHES:
            self._trials.popitem(last=False)
        return trial
