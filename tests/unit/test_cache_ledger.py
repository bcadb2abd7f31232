"""What came of look-ups is counted for each tenant and for all, and no share is told that was not seen."""

from __future__ import annotations

import pytest
from cache_entry import ENTRY
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import result_pb2
from millpond_cache.accuracy import CERTAIN, Accuracy
from millpond_cache.decide import Outcome, Verdict
from millpond_cache.ledger import ALL, MOST_TENANTS, Account, Ledger

HIT = Verdict(Outcome.EXACT, result_pb2.Reason(code="cache.exact"), ENTRY)
MISS = Verdict(Outcome.MISS, result_pb2.Reason(code="cache.miss.empty"))

LOOKUPS = st.lists(st.tuples(st.sampled_from(["acme", "other"]), st.sampled_from([HIT, MISS])), max_size=30)
COUNTS = st.integers(0, 400).flatmap(lambda judged: st.tuples(st.just(judged), st.integers(0, judged)))


@given(LOOKUPS)
def test_every_look_up_is_counted_once_for_its_tenant_and_once_for_all(asked: list[tuple[str, Verdict]]) -> None:
    ledger = Ledger()
    for tenant, verdict in asked:
        ledger.looked_up(tenant, verdict)
    for name in ("acme", "other", ALL):
        mine = [verdict for tenant, verdict in asked if name in (ALL, tenant)]
        account = ledger.account(name)
        assert account.lookups == len(mine)
        assert account.hits == mine.count(HIT)
        assert (account.input_tokens_saved, account.output_tokens_saved) == (6 * account.hits, 2 * account.hits)


@given(COUNTS, st.floats(0.001, 0.5))
def test_the_share_of_wrong_hits_lies_between_the_budget_and_what_was_seen(
    counts: tuple[int, int], budget: float
) -> None:
    judged, wrong = counts
    account = Account(weighed=judged, weighed_wrong=wrong)
    seen = wrong / judged if judged else budget
    assert min(seen, budget) - 1e-9 <= account.error(budget) <= max(seen, budget) + 1e-9
    low, high = account.interval
    assert 0 <= low <= high <= 1
    if judged:
        assert low - 1e-9 <= seen <= high + 1e-9


@given(COUNTS, st.floats(0, 1), st.floats(0, 1))
def test_a_judge_that_errs_narrows_the_interval_no_more_than_one_who_is_always_right(
    counts: tuple[int, int], sensitivity: float, specificity: float
) -> None:
    judged, wrong = counts
    ledger = Ledger()
    for at in range(judged):
        ledger.sampled("erring", *Accuracy(sensitivity, specificity).weighed(wrong=at < wrong), wrong=at < wrong)
        ledger.sampled("certain", *CERTAIN.weighed(wrong=at < wrong), wrong=at < wrong)
    erring, certain = ledger.account("erring"), ledger.account("certain")
    assert (erring.judged, erring.wrong) == (certain.judged, certain.wrong) == counts
    assert erring.weighed <= certain.weighed == judged
    low, high = erring.interval
    assert 0 <= low <= high <= 1
    if sensitivity + specificity <= 1:
        assert (low, high) == (0, 1)
        assert erring.error(0.01) == pytest.approx(0.01)


def test_of_many_verdicts_the_judges_own_errors_are_taken_out() -> None:
    """Of 10,000 hits 300 are wrong; the judge calls 9 in 10 of these wrong, and 1 in 5 of the right ones."""
    ledger, judge = Ledger(), Accuracy(0.9, 0.8)
    for at in range(10_000):
        called = at < 270 + 1940
        ledger.sampled("acme", *judge.weighed(wrong=called), wrong=called)
    account = ledger.account("acme")
    assert account.weighed_wrong / account.weighed == pytest.approx(0.03)
    low, high = account.interval
    assert low < 0.03 < high


def test_without_a_judgement_nothing_is_claimed() -> None:
    assert Account().interval == (0, 1)
    assert Account().error(0.01) == pytest.approx(0.01)


def test_who_comes_when_there_are_too_many_is_counted_together_with_all_only() -> None:
    ledger = Ledger()
    for number in range(MOST_TENANTS + 10):
        ledger.looked_up(f"t{number}", MISS)
    assert len(ledger.accounts) <= MOST_TENANTS + 1
    assert ledger.account(ALL).lookups == MOST_TENANTS + 10
    assert ledger.account(f"t{MOST_TENANTS + 9}").lookups == 0
