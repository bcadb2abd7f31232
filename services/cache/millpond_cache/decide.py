"""Whether a request is answered from the cache, and why. Pure.

the exact entry ──▶ hit
candidates ─▶ ours? ─▶ near enough? ─▶ verify ─▶ hit, else a miss that says how near it was
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from millpond.v1 import request_pb2, result_pb2
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


@dataclass(frozen=True)
class Policy:
    """threshold: the least cosine of a semantic hit."""

    threshold: float
    max_temperature: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: for the decision; its value is the similarity. entry: of a hit."""

    outcome: Outcome
    reason: result_pb2.Reason
    entry: Entry | None = None

    @property
    def similarity(self) -> float:
        """Of the hit, or of the nearest that was none; 0 where there was nothing."""
        return self.reason.value


def spared(request: request_pb2.Request, policy: Policy) -> Verdict | None:
    """The verdict where a request is not to be looked up at all."""
    if request.cache.mode == request_pb2.CACHE_MODE_BYPASS:
        return _verdict(Outcome.BYPASS, "cache.bypass")
    if request.cache.mode == request_pb2.CACHE_MODE_REFRESH:
        return _verdict(Outcome.BYPASS, "cache.refresh")
    if is_varied(request, policy.max_temperature):
        return _verdict(Outcome.BYPASS, "cache.bypass", detail=f"temperature is over {policy.max_temperature}")
    return None


def decide(
    question: Question, exact: Entry | None, candidates: Sequence[Candidate] | None, policy: Policy, now: float
) -> Verdict:
    """exact: the entry under the question's key. candidates: the nearest first; None where the store did not answer.

    What expired, or belongs to another space than the question, is as not given, whatever the store says.
    """
    if exact is not None and exact.expires_at > now and _is_ours(exact, question):
        return _verdict(Outcome.EXACT, "cache.exact", 1.0, entry=exact)
    if candidates is None:
        return _verdict(Outcome.UNAVAILABLE, "cache.unavailable")
    if question.vector is None:
        return _verdict(Outcome.MISS, f"cache.miss.{question.exact_only}")
    return _nearest(question, candidates, policy, now)


def _nearest(question: Question, candidates: Sequence[Candidate], policy: Policy, now: float) -> Verdict:
    usable = [
        each
        for each in candidates
        if each.entry.expires_at > now
        and Space(each.entry.tenant, each.entry.partition, each.entry.embedder) == question.space
        and _is_ours(each.entry, question)
    ]
    near = [each for each in usable if each.similarity >= policy.threshold]
    faults = [verify(question, each) for each in near]
    for each, fault in zip(near, faults, strict=True):
        if not fault:
            # float32 rounds the cosine of a vector and itself to a little over 1.
            return _verdict(Outcome.SEMANTIC, "cache.semantic", min(each.similarity, 1.0), entry=each.entry)
    if near:
        return _verdict(Outcome.MISS, "cache.miss.guard", near[0].similarity, faults[0])
    if usable:
        return _verdict(Outcome.MISS, "cache.miss.below_threshold", usable[0].similarity)
    return _verdict(Outcome.MISS, "cache.miss.empty")


def verify(question: Question, candidate: Candidate) -> str:
    """Why a near candidate must not answer the question after all; "" where it may."""
    return disagreement(question.text, candidate.entry.text) or ""


def _is_ours(entry: Entry, question: Question) -> bool:
    return (entry.tenant, entry.partition, entry.model) == (question.tenant, question.partition, question.model)


def _verdict(
    outcome: Outcome, code: str, value: float | None = None, detail: str = "", entry: Entry | None = None
) -> Verdict:
    return Verdict(outcome, result_pb2.Reason(code=code, value=value, detail=detail), entry)
