"""What the cache would do with pairs of questions of which it is known whether they are the same. Pure.

The stages and the numbers are those of the service; only Kafka, Milvus and Triton are not asked: `a` is the one entry
of a partition, `b` is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import request_pb2
from millpond_cache.budget import Calibration, lower_bound
from millpond_cache.decide import Heads, Known, Outcome, Policy, Shortlist, Verdict, decide, shortlist, uncacheable
from millpond_cache.partition import Question, question_of
from millpond_cache.store import Candidate, Entry
from millpond_core.embedding import pack

NOW = 1_000_000.0
MODEL = "trial"
TENANT = "trial"

BUDGETS = (0.01, 0.02, 0.05)
SHIPPED_BUDGET = 0.01
"""The default of `cache.error_budget`."""


@dataclass(frozen=True, slots=True)
class Pair:
    """cached, asked: the texts. same: whether the first one's answer is right for the second."""

    cached: str
    asked: str
    same: bool


@dataclass(frozen=True, slots=True)
class Signs:
    """What the models say of a pair. vectors: float32 [dimension]; tokens: of the whole texts."""

    cached_vector: NDArray[np.float32]
    asked_vector: NDArray[np.float32]
    cached_tokens: int
    asked_tokens: int
    logit: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """probability: that the answer is right, whatever the other stages say: what the AUC is taken over. verdicts: by
    budget. cosine: of the two vectors, as they travel.
    """

    same: bool
    probability: float
    cosine: float
    verdicts: Mapping[float, Verdict]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """hits: answers given; wrong: those among them that are not right. error: wrong ones among hits. recall: right hits
    among pairs that are the same; coverage: hits among all pairs. error_low95: the error's lower bound at 95 %.
    """

    hits: int
    wrong: int
    error: float
    error_low95: float
    recall: float
    coverage: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def thresholds_of(calibration: Calibration) -> Mapping[float, float]:
    """For each of BUDGETS."""
    return {budget: calibration.threshold(budget) for budget in BUDGETS}


def judge(
    pair: Pair, signs: Signs, heads: Heads, thresholds: Mapping[float, float], max_temperature: float
) -> Judgement:
    """The verdict at each of `thresholds_of`."""
    policy = Policy(heads, max_temperature)
    embedder = heads.cacheability.embedder
    cached = _question(pair.cached, signs.cached_vector, signs.cached_tokens, embedder)
    asked = _question(pair.asked, signs.asked_vector, signs.asked_tokens, embedder)
    one, other = signs.cached_vector, signs.asked_vector
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    probability = heads.agreement.probability(pair.cached, pair.asked, min(cosine, 1.0), signs.logit)
    refused = uncacheable(asked, policy)
    entry = _entry(cached)
    # What may not be given again is not kept either.
    kept = uncacheable(cached, policy) is None
    exact = entry if kept and cached.key == asked.key else None
    candidates = [Candidate(entry, cosine)] if kept and cached.vector is not None and asked.vector is not None else []
    short = shortlist(asked, candidates, policy, NOW) if asked.vector is not None else Shortlist()
    known = Known(exact, short, [signs.logit] if short.candidates else ())
    verdicts = {
        budget: refused or decide(asked, known, policy, threshold, NOW) for budget, threshold in thresholds.items()
    }
    return Judgement(pair.same, probability, cosine, verdicts)


def outcomes(judgements: Sequence[Judgement], budget: float) -> Outcomes:
    given = [each.same for each in judgements if each.verdicts[budget].entry is not None]
    return _outcomes(given, judgements)


def cosine_outcomes(judgements: Sequence[Judgement], least: float) -> Outcomes:
    """What plain cosine would have done: a hit at this cosine or more, and nothing else asked."""
    return _outcomes([each.same for each in judgements if each.cosine >= least], judgements)


def auc(scores: Sequence[float], same: Sequence[bool]) -> float | None:
    """The probability that a pair that is the same scores over one that is not; None without some of both.

    Source: Mann and Whitney's statistic, ties counted half.
    """
    right, wrong = (np.array([s for s, one in zip(scores, same, strict=True) if one is kind]) for kind in (True, False))
    if not len(right) or not len(wrong):
        return None
    order = np.sort(wrong)
    below = np.searchsorted(order, right, "left") + np.searchsorted(order, right, "right")
    return float(below.sum() / 2 / (len(right) * len(wrong)))


def is_hit(verdict: Verdict) -> bool:
    return verdict.outcome in (Outcome.EXACT, Outcome.SEMANTIC)


def _outcomes(given: Sequence[bool], judgements: Sequence[Judgement]) -> Outcomes:
    hits, wrong = len(given), given.count(False)
    same = sum(each.same for each in judgements)
    return Outcomes(
        hits=hits,
        wrong=wrong,
        error=wrong / hits if hits else 0.0,
        error_low95=lower_bound(wrong, hits),
        recall=(hits - wrong) / same if same else 0.0,
        coverage=hits / len(judgements) if judgements else 0.0,
    )


def _question(text: str, vector: NDArray[np.float32], tokens: int, embedder: str) -> Question:
    message = request_pb2.Message(role="user", content=text)
    request = request_pb2.Request(id="trial", tenant=TENANT, messages=[message])
    return question_of(request, MODEL, pack(vector, embedder, tokens), len(vector))


def _entry(of: Question) -> Entry:
    return Entry(
        key=of.key,
        tenant=of.tenant,
        partition=of.partition,
        embedder=of.embedder,
        text=of.text,
        model=of.model,
        output="",
        finish_reason="stop",
        input_tokens=0,
        output_tokens=0,
        source_id="cached",
        answered_at=NOW,
        expires_at=int(NOW) + 60,
    )
