"""What a verdict on a hit counts for, by how often its judge is right. Pure.

Source: the prevalence behind an imperfect test (Rogan and Gladen 1978), where each verdict counts for the square of
Youden's J (1950): the variance of that estimate is that of J² times as many verdicts that are always right.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """sensitivity: the share of wrong hits that the judge calls wrong. specificity: of right ones, called right."""

    sensitivity: float = 1.0
    specificity: float = 1.0

    @property
    def youden(self) -> float:
        """From 0, the judge might as well toss a coin, to 1, it is always right."""
        return max(0.0, self.sensitivity + self.specificity - 1)

    def weighed(self, *, wrong: bool) -> tuple[float, float]:
        """(hits, wrong hits) that one verdict counts for. The second can be under 0: only the sum of many means much,
        and on the average it is the share of wrong hits times the first.
        """
        return self.youden**2, self.youden * (wrong - (1 - self.specificity))


def believed(hits: float, wrong: float) -> float:
    """The wrong ones among so many hits, both summed from verdicts: chance may put the sum under 0 or over the hits."""
    return min(max(0.0, wrong), hits)


CERTAIN = Accuracy()
"""That of who says it of an answer they read."""
