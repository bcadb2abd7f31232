"""Hit or miss, and the reason that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_heads import PERSONAL, SURE, THRESHOLD, UNSURE, heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.agreement import shipped_agreement
from millpond_cache.decide import (
    LEAST_SIMILARITY,
    MOST_VERIFIED,
    Heads,
    Known,
    Outcome,
    Policy,
    Shortlist,
    Verdict,
    decide,
    shortlist,
    spared,
    uncacheable,
    within_reach,
)
from millpond_cache.lookup import answer_of
from millpond_cache.partition import Question, question_of
from millpond_cache.store import Candidate, Entry
from millpond_cache.worker import outcome_of
from millpond_core import topics
from millpond_core.embedding import READS_TOKENS, pack
from millpond_core.errors import Code
from millpond_core.result import Answer, Failure
from millpond_core.stage import Forward

NOW = 1_000_000.0
POLICY = Policy(heads(), max_temperature=0.7)
VECTOR = np.eye(1, 384, dtype=np.float32)[0]
TEXTS = (
    "how deep is the sea",
    "How deep is the sea?",
    "how deep is that sea",
    "what is the sea's depth",
    "who is deep",
)


def asked(text: str = "how deep is the sea", **fields: object) -> request_pb2.Request:
    message = request_pb2.Message(role="user", content=text)
    return request_pb2.Request(id="r-2", tenant="acme", messages=[message], **fields)  # pyright: ignore[reportArgumentType]


def question(embedding: envelope_pb2.Embedding | None = None) -> Question:
    return question_of(asked(), "small-model", embedding or pack(VECTOR, "embedder-1", 6), 384)


def entry(of: Question, text: str = "how deep is that sea", **fields: object) -> Entry:
    known = Entry(
        key=of.key,
        tenant=of.tenant,
        partition=of.partition,
        embedder=of.embedder,
        text=text,
        model=of.model,
        output="Deep.",
        finish_reason="stop",
        input_tokens=6,
        output_tokens=2,
        source_id="r-1",
        answered_at=NOW - 10,
        expires_at=int(NOW) + 10,
    )
    return replace(known, **fields)  # pyright: ignore[reportArgumentType]


def code(verdict: Verdict) -> str:
    return verdict.reason.code


def decided(of: Question, near: Sequence[Candidate], logits: Sequence[float] | None = None) -> Verdict:
    """What comes of these candidates; logits: of those on the shortlist, sure of all unless given."""
    short = shortlist(of, near, POLICY, NOW)
    logits = [SURE for _ in short.candidates] if logits is None else logits[: len(short.candidates)]
    return decide(of, Known(None, short, logits), POLICY, THRESHOLD, NOW)


def test_the_exact_entry_is_a_hit_without_a_vector_and_without_candidates() -> None:
    blind = question_of(asked(), "small-model", None, 384)
    known = entry(blind)
    verdict = decide(blind, Known(known), POLICY, THRESHOLD, NOW)
    assert (verdict.outcome, code(verdict), verdict.entry) == (Outcome.EXACT, "cache.exact", known)


def test_of_those_that_agree_the_most_probable_is_the_hit() -> None:
    ours = question()
    denied, doubtful, agreed = (entry(ours, text) for text in ("how deep is no sea", "how deep is a sea", "sea, deep"))
    near = [Candidate(denied, 0.99), Candidate(doubtful, 0.98), Candidate(agreed, 0.97)]
    short = shortlist(ours, near, POLICY, NOW)
    assert [each.entry for each in short.candidates] == [doubtful, agreed]
    verdict = decided(ours, near, [UNSURE, SURE])
    assert (code(verdict), verdict.similarity, verdict.entry) == ("cache.semantic", 0.97, agreed)
    assert verdict.reason.value == pytest.approx(1 / (1 + np.exp(-SURE)))


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([], ("cache.miss.empty", "")),
        ([("how deep is a sea", LEAST_SIMILARITY - 0.01)], ("cache.miss.below_threshold", "")),
        ([("how deep are 2 seas", 0.97), ("how deep is a sea", LEAST_SIMILARITY / 2)], ("cache.miss.guard", "numbers")),
    ],
)
def test_a_miss_says_why(near: Sequence[tuple[str, float]], expected: tuple[str, str]) -> None:
    ours = question()
    verdict = decided(ours, [Candidate(entry(ours, text), similarity) for text, similarity in near])
    assert (verdict.reason.code, verdict.reason.detail) == expected
    assert (verdict.outcome, verdict.entry) == (Outcome.MISS, None)
    assert verdict.similarity == (near[0][1] if near else 0.0)


def test_who_is_not_sure_enough_of_the_verifiers_number_gives_nothing() -> None:
    ours = question()
    verdict = decided(ours, [Candidate(entry(ours), 0.99)], [UNSURE])
    assert (verdict.outcome, code(verdict), verdict.entry) == (Outcome.MISS, "cache.miss.verifier", None)
    assert str(THRESHOLD) in verdict.reason.detail


@given(
    st.lists(st.tuples(st.sampled_from(TEXTS), st.floats(0.6, 1), st.floats(-12, 12)), min_size=1, max_size=3),
    st.floats(0.5, 1),
)
def test_what_is_not_verified_would_have_been_no_hit(near: list[tuple[str, float, float]], threshold: float) -> None:
    policy = Policy(Heads(POLICY.heads.cacheability, shipped_agreement()), max_temperature=0.7)
    ours = question()
    candidates = [Candidate(entry(ours, text, key=str(place)), cosine) for place, (text, cosine, _) in enumerate(near)]
    thresholds = {each.entry.key: threshold for each in candidates}
    logits = [logit for _, _, logit in near]
    verified = decide(ours, Known(None, Shortlist(candidates), logits), policy, thresholds, NOW)
    short = within_reach(ours, candidates, policy, thresholds)
    said = {each.entry.key: logit for each, logit in zip(candidates, logits, strict=True)}
    asked_for = [said[each.entry.key] for each in short.candidates]
    unasked = decide(ours, Known(None, short, asked_for), policy, thresholds, NOW)
    assert (unasked.outcome, unasked.entry) == (verified.outcome, verified.entry)
    assert code(unasked) in (code(verified), "cache.miss.unlikely")


def test_without_the_verifier_nothing_is_given_by_meaning() -> None:
    ours = question()
    known = Known(None, shortlist(ours, [Candidate(entry(ours), 1.0)], POLICY, NOW), None)
    verdict = decide(ours, known, POLICY, 0.0, NOW)
    assert (verdict.outcome, code(verdict), verdict.entry) == (Outcome.MISS, "cache.miss.unverified", None)


def test_an_entry_without_a_threshold_of_its_own_is_not_given() -> None:
    ours = question()
    known = Known(None, shortlist(ours, [Candidate(entry(ours), 1.0)], POLICY, NOW), [99.0])
    assert code(decide(ours, known, POLICY, {}, NOW)) == "cache.miss.verifier"


def test_no_more_than_a_few_candidates_are_verified() -> None:
    ours = question()
    near = [Candidate(entry(ours, source_id=str(number)), 0.9) for number in range(MOST_VERIFIED + 5)]
    assert shortlist(ours, near, POLICY, NOW).candidates == near[:MOST_VERIFIED]


def test_vectors_that_the_heads_do_not_know_are_not_judged() -> None:
    ours = question(pack(VECTOR, "another", 6))
    assert uncacheable(ours, POLICY) is None
    assert code(decided(ours, [Candidate(entry(ours), 1.0)])) == "cache.miss.uncalibrated"


def test_what_depends_on_the_asker_is_not_looked_up() -> None:
    own = np.eye(PERSONAL + 1, 384, dtype=np.float32)[PERSONAL]
    verdict = uncacheable(question(pack(own, "embedder-1", 6)), POLICY)
    assert verdict is not None
    assert (verdict.outcome, code(verdict)) == (Outcome.BYPASS, "cache.bypass.personal")
    assert uncacheable(question(), POLICY) is None


@pytest.mark.parametrize("embedding", [None, pack(VECTOR, "another", 6), pack(VECTOR, "embedder-1", READS_TOKENS + 1)])
def test_what_depends_on_the_asker_is_not_looked_up_without_a_vector_that_is_known_either(
    embedding: envelope_pb2.Embedding | None,
) -> None:
    own = question_of(asked("What is my balance?"), "small-model", embedding, 384)
    verdict = uncacheable(own, POLICY)
    assert verdict is not None
    assert (verdict.outcome, code(verdict)) == (Outcome.BYPASS, "cache.bypass.personal")
    assert not verdict.reason.HasField("value")
    assert uncacheable(question_of(asked(), "small-model", embedding, 384), POLICY) is None


def test_a_store_that_did_not_answer_is_no_miss_of_its_own() -> None:
    verdict = decide(question(), Known(), POLICY, THRESHOLD, NOW)
    assert (verdict.outcome, code(verdict)) == (Outcome.UNAVAILABLE, "cache.unavailable")


@pytest.mark.parametrize(
    "wrong",
    [{"tenant": "other"}, {"partition": "0" * 64}, {"model": "large"}, {"expires_at": int(NOW)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_entry_that_is_not_ours_is_not_given_whatever_the_store_says(wrong: dict[str, Any]) -> None:
    ours = question()
    strange = entry(ours, **wrong)
    short = shortlist(ours, [Candidate(strange, 1.0)], POLICY, NOW)
    verdict = decide(ours, Known(strange, short, [SURE]), POLICY, THRESHOLD, NOW)
    assert code(verdict) == "cache.miss.empty"


def test_no_vector_is_compared_with_another_embedders() -> None:
    ours = question()
    assert code(decided(ours, [Candidate(entry(ours, embedder="embedder-2"), 1.0)])) == "cache.miss.empty"


@given(st.lists(st.floats(-10, 10), max_size=MOST_VERIFIED), st.floats(0.01, 1))
def test_nothing_under_the_threshold_is_given(logits: list[float], threshold: float) -> None:
    ours = question()
    short = shortlist(ours, [Candidate(entry(ours), 0.9) for _ in logits], POLICY, NOW)
    verdict = decide(ours, Known(None, short, logits), POLICY, threshold, NOW)
    best = max((POLICY.heads.agreement.probability("", "", 0.0, logit) for logit in logits), default=0.0)
    assert (verdict.entry is not None) == (best >= threshold and bool(logits))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked(), None),
        (asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_USE)), None),
        (asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_ONLY)), None),
        (asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_BYPASS)), "cache.bypass"),
        (asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_REFRESH)), "cache.refresh"),
        (asked(params=request_pb2.Params(temperature=0.7)), None),
        (asked(params=request_pb2.Params(temperature=0.8)), "cache.bypass"),
    ],
)
def test_what_is_not_to_be_answered_from_the_cache_is_not_looked_up(
    request_: request_pb2.Request, expected: str | None
) -> None:
    verdict = spared(request_, POLICY)
    assert (code(verdict) if verdict else None) == expected


# What becomes of the request


def routed(request: request_pb2.Request, tier: request_pb2.Tier, route: result_pb2.Route) -> envelope_pb2.Routed:
    return envelope_pb2.Routed(request=request, decision=result_pb2.Decision(tier=tier, route=route))


def test_a_hit_is_answered_by_the_cache_with_what_the_model_used() -> None:
    ours = question()
    hit = decided(ours, [Candidate(entry(ours), 0.96)])
    outcome = outcome_of(routed(asked(), request_pb2.TIER_STANDARD, result_pb2.ROUTE_SMALL), hit)
    assert outcome == answer_of(hit)
    assert isinstance(outcome, Answer)
    assert not outcome.from_model
    assert outcome.output == result_pb2.Output(text="Deep.", finish_reason="stop")
    assert outcome.served_by.model == "small-model"
    assert outcome.served_by.cache == result_pb2.CacheHit(kind="semantic", similarity=0.96, source_id="r-1")
    assert outcome.usage == result_pb2.Usage(input_tokens=6, output_tokens=2)


@pytest.mark.parametrize(
    ("tier", "route", "topic"),
    [
        (request_pb2.TIER_REALTIME, result_pb2.ROUTE_SMALL, topics.BATCH_REALTIME),
        (request_pb2.TIER_STANDARD, result_pb2.ROUTE_SMALL, topics.BATCH_STANDARD),
        (request_pb2.TIER_OVERNIGHT, result_pb2.ROUTE_SMALL, topics.BATCH_OVERNIGHT),
        (request_pb2.TIER_STANDARD, result_pb2.ROUTE_FRONTIER, topics.FRONTIER),
    ],
)
def test_a_miss_goes_on_by_tier_and_route(tier: request_pb2.Tier, route: result_pb2.Route, topic: str) -> None:
    envelope = routed(asked(), tier, route)
    assert outcome_of(envelope, decided(question(), [])) == Forward(topic, envelope)


def test_a_miss_that_only_the_cache_may_answer_fails() -> None:
    only = asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_ONLY))
    for away in (False, True):
        verdict = decide(question(), Known(), POLICY, THRESHOLD, NOW) if away else decided(question(), [])
        outcome = outcome_of(routed(only, request_pb2.TIER_STANDARD, result_pb2.ROUTE_SMALL), verdict)
        assert isinstance(outcome, Failure)
        assert outcome.error.code == Code.CACHE_MISS
        # Asking again helps where the store was away.
        assert outcome.error.retryable == away
