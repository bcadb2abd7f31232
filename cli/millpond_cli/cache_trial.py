"""Files of pairs of questions, and what the cache would do with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool

from millpond_cache.agreement import shipped_agreement
from millpond_cache.budget import shipped_calibration
from millpond_cache.cacheable import shipped_head
from millpond_cache.decide import Heads
from millpond_cache.settings import CacheSettings
from millpond_cache.trial import (
    BUDGETS,
    SHIPPED_BUDGET,
    Judgement,
    Outcomes,
    Pair,
    Signs,
    auc,
    cosine_outcomes,
    judge,
    outcomes,
    thresholds_of,
)
from millpond_cli import json_rows
from millpond_cli.offline_models import embed, verify
from millpond_cli.setup.home import Home
from millpond_cli.setup.progress import Report

COSINES = (0.85, 0.95)
"""Plain cosine is shown at these: what caches often ship with, and a careful one."""

MOST_CHARACTERS = 100_000
"""Of one text: longer ones are no questions."""


@dataclass(frozen=True)
class Trial:
    """judgements: one for each of the pairs, in their order."""

    pairs: Sequence[Pair]
    judgements: Sequence[Judgement]

    @property
    def auc(self) -> float | None:
        return auc([each.probability for each in self.judgements], [each.same for each in self.judgements])

    @property
    def cosine_auc(self) -> float | None:
        return auc([each.cosine for each in self.judgements], [each.same for each in self.judgements])

    def outcomes(self, budget: float) -> Outcomes:
        return outcomes(self.judgements, budget)

    def cosine_outcomes(self, least: float) -> Outcomes:
        return cosine_outcomes(self.judgements, least)

    def as_json(self) -> dict[str, Any]:
        shipped = self.outcomes(SHIPPED_BUDGET)
        return {
            "pairs": len(self.pairs),
            "auc": self.auc,
            "hits": shipped.hits,
            "wrong_hits": shipped.wrong,
            "recall": shipped.recall,
            "coverage": shipped.coverage,
            "budgets": {str(budget): self.outcomes(budget).as_json() for budget in BUDGETS},
            "cosine": {
                "auc": self.cosine_auc,
                "thresholds": {str(least): self.cosine_outcomes(least).as_json() for least in COSINES},
            },
        }

    def lines(self, file: str) -> Iterator[dict[str, Any]]:
        """One for each pair: what was decided at each budget, and why."""
        for pair, judged in zip(self.pairs, self.judgements, strict=True):
            yield {
                "file": file,
                "a": pair.cached,
                "b": pair.asked,
                "same": int(pair.same),
                "probability": round(judged.probability, 6),
                "cosine": round(judged.cosine, 4),
                "budgets": {
                    str(budget): {
                        "hit": verdict.entry is not None,
                        "reason": verdict.reason.code,
                        "value": round(verdict.reason.value, 6),
                        "detail": verdict.reason.detail,
                    }
                    for budget, verdict in judged.verdicts.items()
                },
            }


class PairRow(BaseModel):
    """A line of a file of pairs: {"a": text, "b": text, "same": 0 or 1}."""

    a: str = Field(max_length=MOST_CHARACTERS)
    b: str = Field(max_length=MOST_CHARACTERS)
    same: StrictBool | Literal[0, 1]


def read_pairs(path: Path) -> list[Pair]:
    """Raises CommandError, which names the line."""
    return [Pair(row.a, row.b, bool(row.same)) for row in json_rows.read(path, PairRow)]


def tried(files: Mapping[str, Sequence[Pair]], home: Home, report: Report) -> dict[str, Trial]:
    """Every pair of every file, by the shipped models, heads and thresholds. Raises SetupError, CommandError."""
    pairs = [pair for each in files.values() for pair in each]
    texts = sorted({text for pair in pairs for text in (pair.cached, pair.asked)})
    place = {text: at for at, text in enumerate(texts)}
    embedded = embed(home, texts, report)
    logits = verify(home, [(pair.cached, pair.asked) for pair in pairs], report)
    heads = Heads(shipped_head(), shipped_agreement())
    thresholds = thresholds_of(shipped_calibration())
    hot = CacheSettings().max_temperature
    judgements: list[Judgement] = []
    for pair, logit in zip(pairs, logits, strict=True):
        one, other = place[pair.cached], place[pair.asked]
        signs = Signs(
            cached_vector=embedded.values[one],
            asked_vector=embedded.values[other],
            cached_tokens=int(embedded.tokens[one]),
            asked_tokens=int(embedded.tokens[other]),
            logit=float(logit),
        )
        judgements.append(judge(pair, signs, heads, thresholds, hot))
    trials: dict[str, Trial] = {}
    first = 0
    for name, each in files.items():
        trials[name] = Trial(each, judgements[first : first + len(each)])
        first += len(each)
    return trials


def targets(name: str, trial: Trial) -> list[dict[str, Any]]:
    """That the budgets are kept: their bounds are the budgets themselves. And that the cache answers at all."""
    kept = [
        {
            "name": f"{name}: error at budget {budget}, lower bound",
            "value": trial.outcomes(budget).error_low95,
            "unit": "share of hits",
            "bound": budget,
            "better": "lower",
        }
        for budget in BUDGETS
    ]
    some = {"name": f"{name}: recall", "value": trial.outcomes(SHIPPED_BUDGET).recall, "unit": "share of same pairs"}
    return [*kept, {**some, "bound": 1e-6, "better": "higher"}]
