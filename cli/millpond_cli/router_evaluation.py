"""The router's heads on rows with the truth beside them: figures, and those of routers that look at nothing. Pure.

Each function gives the figures, JSON-ready, and the decision for each row, so that decisions can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from millpond_router.calibration import calibration_error
from millpond_router.evaluation import KEPT, STRONG, WEAK, accuracy_and_f1, area_under_roc, recovered, strong_weak
from millpond_router.heads import Answers

BEYOND = ("oos", "out_of_scope", "out-of-scope")
"""Labels of texts that belong to none of the others."""

Task = Literal["domain", "intent", "strong-weak", "models"]
Decisions = Sequence[str]


class Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Labelled(Row):
    text: str
    label: str


class StrongWeak(Row):
    """weak, strong: whether each was right, or how far, from 0 to 1."""

    prompt: str
    weak: float = Field(ge=0, le=1)
    strong: float = Field(ge=0, le=1)


class Scored(Row):
    """scores: by model. prices: dollars for this question, by model, where they are known."""

    question: str
    scores: Mapping[str, float] = Field(min_length=1)
    prices: Mapping[str, float] | None = None


ROWS: Mapping[str, type[Row]] = {
    "domain": Labelled,
    "intent": Labelled,
    "strong-weak": StrongWeak,
    "models": Scored,
}
"""What each task reads."""


class Says(Protocol):
    """What gives a label's probabilities and how unlike all labels a text is: the shipped heads, or fitted ones."""

    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def chances(self) -> NDArray[np.float32]:
        """[rows, labels]"""
        ...

    @property
    def strangeness(self) -> NDArray[np.float32]:
        """[rows], the higher the less any label fits."""
        ...


@dataclass(frozen=True)
class LabelChances:
    """Implements `Says`."""

    labels: Sequence[str]
    chances: NDArray[np.float32]
    strangeness: NDArray[np.float32]


def domains_of(answers: Answers) -> Says:
    return LabelChances(answers.labels.domains, answers.domains, answers.out_of_scope)


def intents_of(answers: Answers) -> Says:
    return LabelChances(answers.labels.intents, answers.intents, answers.out_of_scope)


def labelled(rows: Sequence[Labelled], said: Says) -> tuple[dict[str, Any], Decisions]:
    """Accuracy and macro-F1 over the rows with a label of their own; AUROC of telling the others from them."""
    chosen = [said.labels[int(place)] for place in said.chances.argmax(axis=1)]
    inside = np.array([row.label not in BEYOND for row in rows])
    true = [row.label for row in rows if row.label not in BEYOND]
    known = [label for label, is_inside in zip(chosen, inside, strict=True) if is_inside]
    lengths = np.array([len(row.text) for row in rows], np.float64)
    figures: dict[str, Any] = {"rows": len(rows), "out_of_scope_rows": int((~inside).sum())}
    if true:
        accuracy, f1 = accuracy_and_f1(true, known)
        sure = said.chances.max(axis=1)[inside].astype(np.float64)
        right = np.array([one == other for one, other in zip(true, known, strict=True)], np.float64)
        most_frequent = Counter(true).most_common(1)[0][0]
        figures |= {
            "accuracy": round(accuracy, 4),
            "macro_f1": round(f1, 4),
            "ece": round(calibration_error(sure, right), 4),
            "unknown_labels": sorted(set(true) - set(said.labels)),
            "baselines": {
                "most_frequent_label": round(float(np.mean([label == most_frequent for label in true])), 4),
                "random_label": round(1 / len(set(true)), 4),
            },
        }
    auroc, by_length = area_under_roc(~inside, said.strangeness), area_under_roc(~inside, lengths)
    if auroc is not None and by_length is not None:
        figures["out_of_scope_auroc"] = round(auroc, 4)
        figures["baselines"]["out_of_scope_auroc_by_length"] = round(max(by_length, 1 - by_length), 4)
    return figures, chosen


def strong_or_weak(rows: Sequence[StrongWeak], answers: Answers) -> tuple[dict[str, Any], Decisions]:
    """The decision is whether the row is among the strong calls that keep KEPT of the strong accuracy."""
    weak, strong = np.array([row.weak for row in rows]), np.array([row.strong for row in rows])
    place = answers.labels.models.index
    promised_weak, promised_strong = answers.quality[:, place(WEAK)], answers.quality[:, place(STRONG)]
    figures = strong_weak(weak, strong, promised_weak, promised_strong)
    low, high = float(weak.mean()), float(strong.mean())
    by_length = recovered(strong - weak, low, high, np.array([len(row.prompt) for row in rows], np.float64))
    needed = (KEPT * high - low) / (high - low) if high > low else 0.0
    figures["baselines"] = {
        "random": {"apgr": 0.5, "strong_share_at_95": round(float(np.clip(needed, 0, 1)), 4)},
        "prompt_length": {"apgr": round(by_length[0], 4), "strong_share_at_95": round(by_length[1], 4)},
        "always_weak": {"accuracy": round(low, 4), "strong_share": 0.0},
        "always_strong": {"accuracy": round(high, 4), "strong_share": 1.0},
    }
    gain = promised_strong - promised_weak
    order = np.argsort(-gain, kind="stable")
    called = round(figures["strong_share_at_95"] * len(rows))
    least = gain[order[called - 1]] if called else np.inf
    return {**figures, "threshold": float(least)}, decisions_at(answers, float(least))


def decisions_at(answers: Answers, threshold: float) -> Decisions:
    """Strong where the promised gain is at least the threshold."""
    place = answers.labels.models.index
    gain = answers.quality[:, place(STRONG)] - answers.quality[:, place(WEAK)]
    return ["strong" if each >= threshold else "weak" for each in gain]


def best_of_models(
    rows: Sequence[Scored], answers: Answers, prices: Mapping[str, float] | None
) -> tuple[dict[str, Any], Decisions]:
    """Each question goes to the model whose answer is likeliest to be good. prices: dollars a question, by model."""
    names, known = known_models(rows, answers.labels.models)
    scores = np.array([[row.scores[name] for name in names] for row in rows])
    promised = answers.quality[:, [answers.labels.models.index(name) for name in known]]
    chosen = [known[int(place)] for place in promised.argmax(axis=1)]
    of_known = scores[:, [names.index(name) for name in known]]
    reached = np.array([row.scores[name] for row, name in zip(rows, chosen, strict=True)])
    means = dict(zip(names, scores.mean(axis=0), strict=True))
    best = max(means, key=lambda name: means[name])
    figures: dict[str, Any] = {
        "rows": len(rows),
        "mean_score": round(float(reached.mean()), 4),
        "above_best_single": round(float(reached.mean() - means[best]), 4),
        "ece": round(calibration_error(promised.ravel().astype(np.float64), of_known.ravel()), 4),
        "chosen": dict(Counter(chosen).most_common()),
        "unknown_models": sorted(set(names) - set(known)),
        "baselines": {
            "best_single": {"model": best, "mean_score": round(float(means[best]), 4)},
            "random": {"mean_score": round(float(scores.mean()), 4)},
            "oracle": {"mean_score": round(float(scores.max(axis=1).mean()), 4)},
        },
    }
    costs = _costs(rows, chosen, best, prices)
    if costs is not None:
        figures["mean_cost_usd"], figures["baselines"]["best_single"]["mean_cost_usd"] = costs
    return figures, chosen


def known_models(rows: Sequence[Scored], models: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """(those that every row has a score of, those of them that the heads know). Raises ValueError for none."""
    names = sorted(set.intersection(*(set(row.scores) for row in rows)))
    known = [name for name in names if name in models]
    if not known:
        raise ValueError(f"of its models ({', '.join(names) or 'none stands in every row'}) the heads know none")
    return names, known


def _costs(
    rows: Sequence[Scored], chosen: Sequence[str], best: str, prices: Mapping[str, float] | None
) -> tuple[float, float] | None:
    """Mean dollars of (the chosen models, always the best one); None where a price is missing."""
    try:
        of_rows = [(row.prices or prices or {}) for row in rows]
        spent = [price[name] for price, name in zip(of_rows, chosen, strict=True)]
        always = [price[best] for price in of_rows]
    except KeyError:
        return None
    return round(float(np.mean(spent)), 8), round(float(np.mean(always)), 8)
