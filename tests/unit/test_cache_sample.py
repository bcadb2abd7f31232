"""A share of the hits is asked of the model too, touching nobody's request, and what comes of it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cache_heads import CALIBRATION
from millpond.v1 import audit_pb2, feedback_pb2, request_pb2
from millpond_cache.accuracy import CERTAIN, Accuracy
from millpond_cache.cluster import PLANES, cluster_of
from millpond_cache.evidence import Evidence
from millpond_cache.judge import SOURCE
from millpond_cache.ledger import Ledger
from millpond_cache.sample import SAME, is_sampled, sample_request, says_the_same
from millpond_cache.settings import CacheSettings
from millpond_cache.thresholds import Judged, Thresholds
from millpond_core.cache_key import request_key
from millpond_core.same_request import may_share

NOW = 1_800_000_000.0
VECTORS = st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8).map(lambda row: np.array(row, dtype=np.float32))


def asked(id: str = "r-1", tenant: str = "acme") -> request_pb2.Request:
    messages = [
        request_pb2.Message(role="system", content="Be brief."),
        request_pb2.Message(role="user", content="How deep is the sea?"),
    ]
    return request_pb2.Request(
        id=id, tenant=tenant, messages=messages, params=request_pb2.Params(max_tokens=8), metadata={"batch": "b"}
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_the_share_of_requests_is_what_was_said_and_always_the_same_ones(share: float) -> None:
    requests = [asked(f"r-{number}") for number in range(10_000)]
    chosen = [is_sampled(each, share) for each in requests]
    # Six standard deviations of a share; the ids are fixed, so it holds each time or never.
    assert abs(sum(chosen) / len(chosen) - share) <= 6 * (share * (1 - share) / len(chosen)) ** 0.5
    assert [is_sampled(each, share) for each in requests] == chosen


def test_a_sample_asks_the_same_and_is_nobodys_request_nor_hit() -> None:
    request = asked()
    routed = sample_request(request, None, audit_pb2.Sample(source_id="r-0"), NOW)
    assert request_key(routed.request, "small") == request_key(request, "small")
    assert routed.request.id != request.id
    assert routed.request.tenant == request.tenant
    assert not may_share(routed.request)
    # The batch that the request belonged to has nothing to do with it.
    assert not routed.request.metadata
    assert routed.sample.source_id == "r-0"
    assert routed == sample_request(request, None, audit_pb2.Sample(source_id="r-0"), NOW)


@given(st.text(), st.text(), st.floats(-1, 1))
def test_two_answers_say_the_same_if_they_are_the_same_or_near(one: str, other: str, cosine: float) -> None:
    assert says_the_same(one, one, cosine)
    assert says_the_same(one, f"  {one}\n", cosine)
    assert says_the_same(one, other, cosine) == (one.split() == other.split() or cosine >= SAME)


@given(VECTORS)
def test_a_cluster_is_a_direction_of_one_embedder(vector: NDArray[np.float32]) -> None:
    assert cluster_of(vector, "e") == cluster_of((vector * np.float32(2)).astype(np.float32), "e")
    assert cluster_of(vector, "e") != cluster_of(vector, "f")


def test_there_are_as_many_clusters_as_sides() -> None:
    chance = np.random.default_rng(1)
    found = {cluster_of(chance.normal(size=384).astype(np.float32), "e") for _ in range(5000)}
    assert len(found) == 2**PLANES


def judgement(
    good: float, *, source: str = SOURCE, source_id: str = "r-0", cluster: str = "e/04"
) -> feedback_pb2.Feedback:
    cache = feedback_pb2.CacheGiven(source_id=source_id, cluster=cluster)
    return feedback_pb2.Feedback(tenant="acme", good=good, source=source, cache=cache)


def test_what_errs_is_demoted_and_so_is_its_like_and_no_other_tenant() -> None:
    judged = Judged()
    thresholds = Thresholds(CacheSettings(error_budget=0.01), judged, CALIBRATION)
    usual = thresholds.of("acme", "small", "r-9", "e/09")
    # One entry errs, among many hits of the tenant that were right.
    Evidence(judged, Ledger(), CERTAIN).hear([judgement(1.0, source_id="r-8", cluster="e/08") for _ in range(2000)])
    Evidence(judged, Ledger(), CERTAIN).hear([judgement(0.0) for _ in range(20)])
    assert thresholds.of("acme", "small", "r-0", "e/00") > usual
    assert thresholds.of("acme", "small", "r-1", "e/04") > usual
    assert thresholds.of("acme", "small", "r-9", "e/09") == usual
    assert thresholds.of("other", "small", "r-0", "e/04") == usual


def test_a_judge_that_tosses_a_coin_demotes_nothing() -> None:
    judged, ledger = Judged(), Ledger()
    thresholds = Thresholds(CacheSettings(error_budget=0.01), judged, CALIBRATION)
    usual = thresholds.of("acme", "small", "r-0", "e/04")
    evidence = Evidence(judged, ledger, Accuracy(0.55, 0.45))
    evidence.hear([judgement(0.0) for _ in range(2000)])
    assert thresholds.of("acme", "small", "r-0", "e/04") == usual
    # And what people say counts whatever the judge is worth.
    evidence.hear([judgement(0.0, source="user") for _ in range(20)])
    assert thresholds.of("acme", "small", "r-0", "e/04") > usual


def test_the_share_of_wrong_hits_is_told_by_samples_and_not_by_who_complains() -> None:
    ledger = Ledger()
    evidence = Evidence(Judged(), ledger, CERTAIN)
    evidence.hear([judgement(1.0), judgement(1.0), judgement(0.0), judgement(0.0, source="user")])
    account = ledger.account("acme")
    assert (account.judged, account.wrong, account.reported, account.reported_wrong) == (3, 1, 1, 1)


def test_what_is_about_a_model_says_nothing_of_the_cache() -> None:
    ledger, judged = Ledger(), Judged()
    Evidence(judged, ledger, CERTAIN).hear([feedback_pb2.Feedback(tenant="acme", id="r-1", model="small", good=0.0)])
    assert ledger.account("acme").reported == 0
    assert judged.of("tenant acme") == (0, 0)


@pytest.mark.parametrize(("good", "wrong"), [(0.0, 1), (0.49, 1), (0.5, 0), (1.0, 0), (float("nan"), 1)])
def test_half_right_is_right_and_no_number_is_wrong(good: float, wrong: int) -> None:
    ledger = Ledger()
    Evidence(Judged(), ledger, CERTAIN).hear([judgement(good)])
    assert ledger.account("acme").wrong == wrong
