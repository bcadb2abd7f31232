"""Whether a request is answered from the cache, and why. Pure.

the question ─▶ may its answer be given again? ─▶ the exact entry ─▶ hit
candidates ─▶ ours? ─▶ near enough? ─▶ guards ─▶ can the verifier make it probable enough? ─▶ the verifier ─▶
                                                         one probability ─▶ over the budget's threshold? ─▶ hit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from millpond.v1 import request_pb2, result_pb2
from millpond_cache.agreement import AgreementHead
from millpond_cache.budget import NEVER
from millpond_cache.cacheable import CacheabilityHead
from millpond_cache.guard import disagreement
from millpond_cache.lesson import is_varied
from millpond_cache.partition import Question, Space
from millpond_cache.store import Candidate, Entry


class Outcome(StrEnum):
    """What came of a look-up: a label of metrics.CACHE_LOOKUPS."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    MISS = "miss"
    BYPASS = "bypass"
    UNAVAILABLE = "unavailable"


LEAST_SIMILARITY = 0.55
"""The cosine under which no candidate is verified: in calibration hardly a pair under it was the same question."""

MOST_VERIFIED = 3
"""Candidates of one question that the verifier reads: the nearest are the right ones, and each costs milliseconds."""


@dataclass(frozen=True)
class Heads:
    """What was trained: see training/cache."""

    cacheability: CacheabilityHead
    agreement: AgreementHead

    def fit(self, embedder: str) -> bool:
        """Whether vectors of this embedder are those that the heads were trained on."""
        return embedder in self.agreement.embedders


@dataclass(frozen=True)
class Policy:
    heads: Heads
    max_temperature: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: for the decision. entry: of a hit. similarity: the cosine to the hit, or to the nearest that was none."""

    outcome: Outcome
    reason: result_pb2.Reason
    entry: Entry | None = None
    similarity: float = 0.0


def spared(request: request_pb2.Request, policy: Policy) -> Verdict | None:
    """The verdict where a request is not to be looked up at all."""
    if request.cache.mode == request_pb2.CACHE_MODE_BYPASS:
        return _verdict(Outcome.BYPASS, "cache.bypass")
    if request.cache.mode == request_pb2.CACHE_MODE_REFRESH:
        return _verdict(Outcome.BYPASS, "cache.refresh")
    if is_varied(request, policy.max_temperature):
        return _verdict(Outcome.BYPASS, "cache.bypass", detail=f"temperature is over {policy.max_temperature}")
    return None


def uncacheable(question: Question, policy: Policy) -> Verdict | None:
    """The verdict where an answer to this question is nobody else's, nor the asker's own at another time."""
    head, of = policy.heads.cacheability, (question.text, question.vector, question.embedder)
    if head.allows(*of):
        return None
    probability = head.judged(*of)
    detail = "by its words alone" if probability is None else ""
    return _verdict(Outcome.BYPASS, "cache.bypass.personal", probability, detail)


@dataclass(frozen=True)
class Shortlist:
    """The candidates that the verifier is to read, the nearest first; where there are none, `miss` says why."""

    candidates: Sequence[Candidate] = ()
    miss: Verdict | None = None


def shortlist(question: Question, candidates: Sequence[Candidate], policy: Policy, now: float) -> Shortlist:
    """candidates: what the store found, the nearest first. What expired, or belongs to another space than the question,
    is as not found, whatever the store says.
    """
    usable = [
        each
        for each in candidates
        if each.entry.expires_at > now
        and Space(each.entry.tenant, each.entry.partition, each.entry.embedder) == question.space
        and _is_ours(each.entry, question)
    ]
    if not usable:
        return Shortlist(miss=_verdict(Outcome.MISS, "cache.miss.empty"))
    nearest = _cosine(usable[0])
    if not policy.heads.fit(question.embedder):
        return Shortlist(miss=_verdict(Outcome.MISS, "cache.miss.uncalibrated", similarity=nearest))
    near = [each for each in usable if each.similarity >= LEAST_SIMILARITY]
    if not near:
        return Shortlist(miss=_verdict(Outcome.MISS, "cache.miss.below_threshold", nearest, similarity=nearest))
    faults = [disagreement(question.text, each.entry.text) for each in near]
    agreed = [each for each, fault in zip(near, faults, strict=True) if fault is None]
    if not agreed:
        return Shortlist(miss=_verdict(Outcome.MISS, "cache.miss.guard", nearest, str(faults[0]), similarity=nearest))
    return Shortlist(agreed[:MOST_VERIFIED])


def within_reach(
    question: Question, candidates: Sequence[Candidate], policy: Policy, thresholds: Mapping[str, float]
) -> Shortlist:
    """Those of these candidates that the verifier could make a hit: it takes milliseconds a pair, and most near misses
    share too few words, whatever it says. candidates: at least one. thresholds: as for `decide`.
    """
    agreement = policy.heads.agreement
    chances = [
        (agreement.most_probable(each.entry.text, question.text, _cosine(each)), thresholds.get(each.entry.key, NEVER))
        for each in candidates
    ]
    left = [each for each, (chance, threshold) in zip(candidates, chances, strict=True) if chance >= threshold]
    if left:
        return Shortlist(left)
    chance, threshold = max(chances)
    detail = f"at most, whatever the verifier says; {_under(threshold)}"
    nearest = _cosine(candidates[0])
    return Shortlist(miss=_verdict(Outcome.MISS, "cache.miss.unlikely", chance, detail, similarity=nearest))


@dataclass(frozen=True)
class Known:
    """What was found out about one question.

    exact: the entry under its key. shortlist: None where the store did not answer. logits: of the verifier, for each on
    the shortlist; None where it did not answer.
    """

    exact: Entry | None = None
    shortlist: Shortlist | None = None
    logits: Sequence[float] | None = None


def decide(  # noqa: PLR0911 - a reason each
    question: Question, known: Known, policy: Policy, thresholds: Mapping[str, float] | float, now: float
) -> Verdict:
    """thresholds: the least probability of a hit, for each entry by its key, or one for all."""
    if known.exact is not None and known.exact.expires_at > now and _is_ours(known.exact, question):
        return _verdict(Outcome.EXACT, "cache.exact", 1.0, entry=known.exact, similarity=1.0)
    if known.shortlist is None:
        return _verdict(Outcome.UNAVAILABLE, "cache.unavailable")
    if question.vector is None:
        return _verdict(Outcome.MISS, f"cache.miss.{question.exact_only}")
    if known.shortlist.miss is not None:
        return known.shortlist.miss
    nearest = _cosine(known.shortlist.candidates[0])
    if known.logits is None:
        return _verdict(Outcome.MISS, "cache.miss.unverified", similarity=nearest)
    judged = [
        (policy.heads.agreement.probability(each.entry.text, question.text, _cosine(each), logit), each)
        for each, logit in zip(known.shortlist.candidates, known.logits, strict=True)
    ]
    probability, best = max(judged, key=lambda pair: pair[0])
    threshold = thresholds.get(best.entry.key, NEVER) if isinstance(thresholds, Mapping) else thresholds
    if probability >= threshold:
        return _verdict(Outcome.SEMANTIC, "cache.semantic", probability, entry=best.entry, similarity=_cosine(best))
    return _verdict(Outcome.MISS, "cache.miss.verifier", probability, _under(threshold), similarity=_cosine(best))


def recalled(entry: Entry) -> Verdict:
    """The verdict for a request whose equal was answered while it waited."""
    return _verdict(Outcome.EXACT, "cache.exact.waited", 1.0, entry=entry, similarity=1.0)


def _under(threshold: float) -> str:
    return "over every error budget that was calibrated" if threshold >= NEVER else f"under {threshold:.4f}"


def _cosine(candidate: Candidate) -> float:
    # float32 rounds the cosine of a vector and itself to a little over 1.
    return min(candidate.similarity, 1.0)


def _is_ours(entry: Entry, question: Question) -> bool:
    return (entry.tenant, entry.partition, entry.model) == (question.tenant, question.partition, question.model)


def _verdict(  # noqa: PLR0917
    outcome: Outcome,
    code: str,
    value: float | None = None,
    detail: str = "",
    entry: Entry | None = None,
    similarity: float = 0.0,
) -> Verdict:
    return Verdict(outcome, result_pb2.Reason(code=code, value=value, detail=detail), entry, similarity)
