"""From a promised probability to the one that outcomes bear out: a rising line through a few points. Pure.

Source: isotonic regression by pooling adjacent violators (Ayer et al. 1955; Zadrozny and Elkan 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15
"""Of equal width, for the expected calibration error. Source: Guo et al. 2017."""

PRIOR = 20.0
"""Outcomes that a promise weighs as much as: so many must speak against it before they count half (shrinkage)."""

POINTS = 12
"""Groups of equal size, of as many outcomes as the prior or more, that outcomes are pooled to before they are made to
rise: so few hold hardly any noise."""


@dataclass(frozen=True)
class Calibration:
    """promised, observed: points of the line, both rising, from 0 to 1. It is level beyond its ends."""

    promised: tuple[float, ...] = (0.0, 1.0)
    observed: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        points = (*zip(self.promised, self.observed, strict=True),)
        if not points or any(a >= c or b > d for (a, b), (c, d) in pairwise(points)):
            raise ValueError("a calibration's points must rise")
        if not all(0 <= number <= 1 for point in points for number in point):
            raise ValueError("a calibration's points must be from 0 to 1")

    def __call__(self, promised: NDArray[np.floating]) -> Floats:
        return np.interp(promised, self.promised, self.observed)

    def of(self, promised: float) -> float:
        return float(np.interp(promised, self.promised, self.observed))


AS_PROMISED = Calibration()


def calibrate(
    promised: Sequence[float] | Floats, good: Sequence[float] | Floats, prior: float = PRIOR, points: int = POINTS
) -> Calibration:
    """The line for these outcomes. good: 0 to 1 each. prior: outcomes that the promises count as.

    Without outcomes promises stay as they are; every outcome moves the line a little, so that a few chance ones do not
    throw it over.
    """
    said, was = np.asarray(promised, np.float64), np.asarray(good, np.float64)
    if not len(said):
        return AS_PROMISED
    order = np.argsort(said, kind="stable")
    groups = np.array_split(order, min(points, max(int(len(order) / prior), 1)))
    prior /= len(groups)
    middle = np.array([said[group].mean() for group in groups])
    count = np.array([len(group) for group in groups], np.float64)
    shrunk = (np.array([was[group].sum() for group in groups]) + prior * middle) / (count + prior)
    rising = pooled(shrunk, count + prior)
    # Where no outcome lies, promises are as much too high or too low as at the nearest one.
    last, observed = float(middle[-1]), float(rising[-1])
    low, high = 0.0, (observed if last == 0 else observed / last if observed < last else 1.0)
    middle, rising = np.concatenate([[0.0], middle, [1.0]]), np.concatenate([[low], rising, [high]])
    keep = np.concatenate([[True], np.diff(middle) > 1e-9])
    rising = np.maximum.accumulate(rising)
    return Calibration(tuple(map(float, middle[keep])), tuple(map(float, rising[keep])))


def pooled(values: Floats, weights: Floats) -> Floats:
    """The rising values that are nearest to these, by weighted squares."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, size = float(value), float(weight), 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, wide = blocks.pop()
            mean, total, size = (before * heavy + mean * total) / (heavy + total), heavy + total, size + wide
        blocks.append((mean, total, size))
    return np.clip(np.concatenate([np.full(size, mean) for mean, _, size in blocks]), 0, 1)


def calibration_error(promised: Floats, good: Floats, bins: int = BINS) -> float:
    """Expected calibration error: how far promises and outcomes lie apart, over bins of equal width, by their size."""
    place = np.minimum((promised * bins).astype(int), bins - 1)
    apart = np.bincount(place, promised, bins) - np.bincount(place, good, bins)
    return float(np.abs(apart).sum() / len(promised)) if len(promised) else 0.0
