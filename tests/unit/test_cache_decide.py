"""Hit or miss, and the reason that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.decide import Outcome, Policy, Verdict, decide, spared
from millpond_cache.lookup import answer_of
from millpond_cache.partition import Question, question_of
from millpond_cache.store import Candidate, Entry
from millpond_cache.worker import outcome_of
from millpond_core import topics
from millpond_core.embedding import pack
from millpond_core.errors import Code
from millpond_core.result import Answer, Failure
from millpond_core.stage import Forward

NOW = 1_000_000.0
POLICY = Policy(threshold=0.95, max_temperature=0.7)
VECTOR = np.eye(1, 384, dtype=np.float32)[0]


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


def test_the_exact_entry_is_a_hit_without_a_vector_and_without_candidates() -> None:
    blind = question_of(asked(), "small-model", None, 384)
    known = entry(blind)
    verdict = decide(blind, known, None, POLICY, NOW)
    assert (verdict.outcome, code(verdict), verdict.entry) == (Outcome.EXACT, "cache.exact", known)


def test_the_nearest_that_agrees_is_a_hit() -> None:
    ours = question()
    denied, agreed, further = (entry(ours, text) for text in ("how deep is no sea", "how deep is a sea", "sea, deep"))
    near = [Candidate(denied, 0.99), Candidate(agreed, 0.98), Candidate(further, 0.97)]
    verdict = decide(ours, None, near, POLICY, NOW)
    assert (code(verdict), verdict.similarity, verdict.entry) == ("cache.semantic", 0.98, agreed)


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([], ("cache.miss.empty", 0.0, "")),
        ([("how deep is a sea", 0.94)], ("cache.miss.below_threshold", 0.94, "")),
        ([("how deep are 2 seas", 0.97), ("how deep is a sea", 0.9)], ("cache.miss.guard", 0.97, "numbers")),
    ],
)
def test_a_miss_says_how_near_it_was(near: Sequence[tuple[str, float]], expected: tuple[str, float, str]) -> None:
    ours = question()
    candidates = [Candidate(entry(ours, text), similarity) for text, similarity in near]
    verdict = decide(ours, None, candidates, POLICY, NOW)
    assert (verdict.reason.code, verdict.similarity, verdict.reason.detail) == expected
    assert (verdict.outcome, verdict.entry) == (Outcome.MISS, None)


def test_a_store_that_did_not_answer_is_no_miss_of_its_own() -> None:
    verdict = decide(question(), None, None, POLICY, NOW)
    assert (verdict.outcome, code(verdict)) == (Outcome.UNAVAILABLE, "cache.unavailable")


@pytest.mark.parametrize(
    "wrong",
    [{"tenant": "other"}, {"partition": "0" * 64}, {"model": "large"}, {"expires_at": int(NOW)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_entry_that_is_not_ours_is_not_given_whatever_the_store_says(wrong: dict[str, Any]) -> None:
    ours = question()
    strange = entry(ours, **wrong)
    verdict = decide(ours, strange, [Candidate(strange, 1.0)], POLICY, NOW)
    assert code(verdict) == "cache.miss.empty"


def test_no_vector_is_compared_with_another_embedders() -> None:
    ours = question()
    verdict = decide(ours, None, [Candidate(entry(ours, embedder="embedder-2"), 1.0)], POLICY, NOW)
    assert code(verdict) == "cache.miss.empty"


@given(st.lists(st.floats(-1, 1), max_size=5), st.floats(0.01, 1))
def test_nothing_under_the_threshold_is_given(similarities: list[float], threshold: float) -> None:
    ours = question()
    near = [Candidate(entry(ours), each) for each in sorted(similarities, reverse=True)]
    verdict = decide(ours, None, near, replace(POLICY, threshold=threshold), NOW)
    assert (verdict.entry is not None) == any(each >= threshold for each in similarities)
    assert verdict.entry is None or verdict.similarity >= threshold


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
    hit = decide(ours, None, [Candidate(entry(ours), 0.96)], POLICY, NOW)
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
    assert outcome_of(envelope, decide(question(), None, [], POLICY, NOW)) == Forward(topic, envelope)


def test_a_miss_that_only_the_cache_may_answer_fails() -> None:
    only = asked(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_ONLY))
    for candidates in ([], None):
        verdict = decide(question(), None, candidates, POLICY, NOW)
        outcome = outcome_of(routed(only, request_pb2.TIER_STANDARD, result_pb2.ROUTE_SMALL), verdict)
        assert isinstance(outcome, Failure)
        assert outcome.error.code == Code.CACHE_MISS
        # Asking again helps where the store was away.
        assert outcome.error.retryable == (candidates is None)
