"""Measures contenders in turn, round by round, so that what else the machine does weighs on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

LEAST_ROUNDS = 7
"""Below it a median says little."""

Measure = Callable[[], Sequence[float]]
"""Measures a contender once: several figures of one kind, slices of one run for example."""


@dataclass(frozen=True)
class Series:
    """One contender's rounds: the median of each."""

    medians: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.medians)

    @property
    def spread(self) -> float:
        """How far the middle half of the rounds lies apart, as a share of the median."""
        ordered = sorted(self.medians)
        quarter = len(ordered) // 4
        return (ordered[-1 - quarter] - ordered[quarter]) / self.median if self.median else 0.0

    def as_json(self, digits: int = 1) -> dict[str, Any]:
        return {
            "median": round(self.median, digits),
            "spread": round(self.spread, 3),
            "rounds": [round(each, digits) for each in self.medians],
        }


def interleaved(
    contenders: Mapping[str, Measure], rounds: int, said: Callable[[str], None] = print
) -> dict[str, Series]:
    """Every round measures each contender once, in the order given. said: hears a line after each round."""
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            medians[name].append(median(measure()))
        latest = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in medians.items())
        said(f"round {number} of {rounds}: {latest}")
    return {name: Series(tuple(values)) for name, values in medians.items()}


def ratio(first: Series, second: Series) -> Series:
    """Of two contenders, round by round: each round's figures were taken one soon after the other."""
    return Series(tuple(a / b for a, b in zip(first.medians, second.medians, strict=True)))
