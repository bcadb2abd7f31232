"""How good a router is: the figures, beside those of routers that look at nothing. Pure.

Source of the strong/weak figures: Ong et al. 2024, RouteLLM (performance gap recovered, and its mean, APGR).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millpond_router.calibration import calibration_error

Floats = NDArray[Any]

WEAK, STRONG = "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"
"""Of the models whose answers the heads have seen, those that RouteLLM's sets compare."""

KEPT = 0.95
"""Of the strong model's accuracy: `strong_share_at_95` is the share of strong calls that keeps so much."""


def recovered(gain: Floats, weak: float, strong: float, order: Floats) -> tuple[float, float]:
    """(APGR, share of strong calls at which KEPT of the strong accuracy is first reached).

    gain: by how much the strong model was better, of each prompt. order: the prompts whose strong call comes first have
    the highest numbers; equal ones come in the file's order.
    """
    count = len(gain)
    ahead = np.concatenate([[0.0], np.cumsum(gain[np.argsort(-order, kind="stable")])]) / count
    between = (ahead[1:] + ahead[:-1]) / 2
    apgr = float(between.mean() / (strong - weak)) if strong != weak else 0.0
    enough = np.flatnonzero(weak + ahead >= KEPT * strong - 1e-12)
    return apgr, float(enough[0] / count) if len(enough) else 1.0


def strong_weak(weak: Floats, strong: Floats, promised_weak: Floats, promised_strong: Floats) -> dict[str, Any]:
    """weak, strong: whether each was right. promised: how likely the heads said they were. [prompts] each.

    ece: of both models' promises together.
    """
    right_weak, right_strong = float(weak.mean()), float(strong.mean())
    gain = strong.astype(np.float64) - weak
    apgr, share = recovered(gain, right_weak, right_strong, promised_strong - promised_weak)
    promised, right = np.concatenate([promised_weak, promised_strong]), np.concatenate([weak, strong])
    return {
        "apgr": round(apgr, 4),
        "strong_share_at_95": round(share, 4),
        "ece": round(calibration_error(promised.astype(np.float64), right.astype(np.float64)), 4),
        "weak_accuracy": round(right_weak, 4),
        "strong_accuracy": round(right_strong, 4),
        "prompts": len(gain),
    }


def area_under_roc(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """How likely a positive's score is above a negative's; equal ones count half. None where there is only one kind."""
    ahead, behind = int(positive.sum()), int((~positive).sum())
    if not ahead or not behind:
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[place]
    return float((ranks[positive].sum() - ahead * (ahead + 1) / 2) / (ahead * behind))


def accuracy_and_f1(true: Sequence[str], said: Sequence[str]) -> tuple[float, float]:
    """(accuracy, macro-F1 over the labels that stand in `true`)."""
    right = float(np.mean([one == other for one, other in zip(true, said, strict=True)]))
    scores: list[float] = []
    for label in sorted(set(true)):
        hits = sum(one == other == label for one, other in zip(true, said, strict=True))
        wrong = sum((one == label) != (other == label) for one, other in zip(true, said, strict=True))
        scores.append(2 * hits / (2 * hits + wrong) if hits else 0.0)
    return right, float(np.mean(scores))
