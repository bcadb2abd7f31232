"""From the share of hits that may be wrong to the least probability of a hit. Pure.

The user says an error budget, not a cosine. `calibration.json`, made in training/cache, holds for each group of
calibration pairs how many hits there were, and how many were wrong, at each of some hundred thresholds. The threshold
of a budget is the least one at which, in every group, an upper bound of the error is within the budget, and at every
higher one too: fixed-sequence testing, so that the promise holds for the one that is chosen.

Source: Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021), conformal risk control for risks that do not
fall steadily, with Clopper and Pearson's bound (1934). The worst group stands for what an asker's questions may be.

Some groups are labelled by many hands, and among their nearest pairs so many labels are wrong ("Can someone read my
palm?" and "Could someone read my palm?" count as two questions) that they can vouch for no small budget. They can only
object: a threshold is not chosen where the error in them is over the budget by more than chance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CALIBRATION = Path(__file__).parent / "heads" / "calibration.json"

NEVER = 2.0
"""A threshold that no probability reaches: the calibration data cannot vouch for so small a budget."""

CONFIDENCE = 0.5
"""Of the bound in a group that vouches: that of the median, as often over the error as under it. There are some hundred
hits in a group, too few for a budget of 0.01 at 0.9; the worst of the groups is taken instead."""

OBJECTION = 0.8
"""Of the lower bound in a group that can only object."""

OBJECTION_OF_FEW = 0.95
"""The same with fewer than LEAST_HITS hits: it is asked at every threshold, and one wrong label among the first would
end the sequence."""

LEAST_HITS = 100
"""Of a group that vouches: at thresholds with fewer, one pair more or less would decide."""

PRIOR_HITS = 200.0
"""Judged hits that the calibration data counts for beside an entry's or a cluster's own: few of these change little, so
new entries serve at once, and a hundred of them outweigh it."""


@dataclass(frozen=True)
class Calibration:
    """thresholds: from the highest down. groups: for each threshold (hits, wrong hits) among the group's pairs.
    objecting: the groups whose labels are not to be trusted that far.
    """

    thresholds: Sequence[float]
    groups: Mapping[str, Sequence[tuple[int, int]]]
    objecting: frozenset[str] = frozenset()

    def threshold(self, budget: float, confidence: float = CONFIDENCE) -> float:
        """The least probability of a hit. budget: the share of hits that may be wrong, over 0 and under 1."""
        return max(self._of_group(name, budget, confidence) for name in self.groups)

    def _of_group(self, name: str, budget: float, confidence: float) -> float:
        chosen = NEVER
        for threshold, (hits, wrong) in zip(self.thresholds, self.groups[name], strict=True):
            if name in self.objecting:
                good = lower_bound(wrong, hits, OBJECTION if hits >= LEAST_HITS else OBJECTION_OF_FEW) <= budget
            elif hits < LEAST_HITS:
                continue
            else:
                good = _is_within(wrong, hits, budget, confidence)
            if good:
                chosen = threshold
            # Until one is good nothing is said yet; after it, a bad one ends it.
            elif chosen < NEVER:
                break
        return chosen


def _is_within(wrong: int, hits: int, budget: float, confidence: float) -> bool:
    """Whether `upper_bound` is at most the budget; the bound itself would take fifty times as long."""
    return wrong < hits * budget and _at_most(wrong, hits, budget) <= 1 - confidence


def upper_bound(wrong: int, hits: int, confidence: float) -> float:
    """Clopper and Pearson's, one-sided, of the share of wrong ones; 1 without any hits."""
    if hits <= wrong:
        return 1.0
    low, high = wrong / hits, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(wrong, hits, middle) > 1 - confidence else (low, middle)
    return high


def lower_bound(wrong: int, hits: int, confidence: float = 0.95) -> float:
    """Clopper and Pearson's, one-sided, of the share of wrong ones; 0 without any wrong."""
    if wrong == 0:
        return 0.0
    low, high = 0.0, wrong / hits
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - _at_most(wrong - 1, hits, middle) < 1 - confidence else (low, middle)
    return low


def _at_most(wrong: int, hits: int, share: float) -> float:
    """The binomial distribution: the probability of `wrong` or fewer among `hits`."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(wrong >= hits)
    logs = (
        math.lgamma(hits + 1)
        - math.lgamma(k + 1)
        - math.lgamma(hits - k + 1)
        + k * math.log(share)
        + (hits - k) * math.log1p(-share)
        for k in range(wrong + 1)
    )
    return min(1.0, sum(map(math.exp, logs)))


def own_budget(budget: float, hits: float, wrong: float) -> float:
    """The budget to ask the calibration for, where so many judged hits of an entry or a cluster were wrong.

    The error is estimated as that of `hits` and of PRIOR_HITS more at the budget itself; where it is over the budget,
    what is asked for is as much under it. Never over the budget: that few were wrong is no reason to be careless.
    Source: shrinkage towards the whole (the mean of a beta posterior).
    """
    estimate = (wrong + PRIOR_HITS * budget) / (hits + PRIOR_HITS)
    return budget * min(1.0, budget / estimate)


@cache
def shipped_calibration() -> Calibration:
    stored = json.loads(CALIBRATION.read_text())
    return Calibration(
        thresholds=stored["thresholds"],
        groups={name: [(hits, wrong) for hits, wrong in counts] for name, counts in stored["groups"].items()},
        objecting=frozenset(stored["objecting"]),
    )
