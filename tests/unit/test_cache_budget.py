"""Thresholds follow from error budgets, and what was judged can only raise them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_heads import CALIBRATION, THRESHOLD
from millpond_cache.budget import NEVER, Calibration, lower_bound, own_budget, upper_bound
from millpond_cache.settings import CacheSettings
from millpond_cache.thresholds import Judged, Thresholds, entry_name, tenant_name

COUNTS = st.integers(1, 400).flatmap(lambda hits: st.tuples(st.just(hits), st.integers(0, hits)))


@given(COUNTS)
def test_the_share_lies_between_its_bounds(counts: tuple[int, int]) -> None:
    hits, wrong = counts
    assert lower_bound(wrong, hits) <= wrong / hits <= upper_bound(wrong, hits, 0.95)


@pytest.mark.parametrize(
    ("wrong", "hits", "upper"), [(0, 299, 0.00997), (0, 59, 0.0495), (2, 100, 0.0616), (5, 5, 1.0)]
)
def test_bounds_are_clopper_and_pearsons(wrong: int, hits: int, upper: float) -> None:
    """Values of the beta distribution's quantiles, as tables give them."""
    assert upper_bound(wrong, hits, 0.95) == pytest.approx(upper, abs=2e-4)


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_greater_budget_never_asks_for_more(one: float, other: float) -> None:
    small, great = sorted((one, other))
    assert CALIBRATION.threshold(great) <= CALIBRATION.threshold(small)


def test_every_group_must_keep_the_budget() -> None:
    groups = {"easy": [(1000, 0), (2000, 0)], "hard": [(1000, 0), (2000, 100)]}
    assert Calibration([0.9, 0.5], {"easy": groups["easy"]}).threshold(0.01) == 0.5
    assert Calibration([0.9, 0.5], groups).threshold(0.01) == 0.9


def test_too_few_hits_promise_nothing() -> None:
    assert Calibration([0.9], {"few": [(50, 0)]}).threshold(0.01) == NEVER


def test_labels_that_are_not_to_be_trusted_can_object_and_not_vouch() -> None:
    groups = {"made": [(1000, 0), (2000, 0)], "asked": [(10, 0), (1000, 30)]}
    assert Calibration([0.9, 0.5], groups).threshold(0.01) == NEVER
    assert Calibration([0.9, 0.5], groups, frozenset({"asked"})).threshold(0.01) == 0.9
    assert Calibration([0.9, 0.5], groups, frozenset({"asked"})).threshold(0.04) == 0.5


def test_one_wrong_label_among_a_few_ends_nothing_and_two_do() -> None:
    made = [(1000, 0), (2000, 0), (3000, 0)]
    for wrong, threshold in ((1, 0.7), (2, 0.9)):
        asked = [(5, 0), (8, wrong), (300, 3)]
        calibration = Calibration([0.9, 0.8, 0.7], {"made": made, "asked": asked}, frozenset({"asked"}))
        assert calibration.threshold(0.01) == threshold


def test_after_a_threshold_that_was_too_low_no_lower_one_is_tried() -> None:
    lucky = Calibration([0.9, 0.8, 0.7], {"all": [(1000, 0), (2000, 200), (20000, 20)]})
    assert lucky.threshold(0.01) == 0.9


@given(st.floats(0.001, 0.2), COUNTS)
def test_what_was_judged_only_makes_careful(budget: float, counts: tuple[int, int]) -> None:
    hits, wrong = counts
    own = own_budget(budget, hits, wrong)
    assert 0 < own <= budget
    assert own == budget or wrong / hits > budget


def test_an_entry_and_a_tenant_that_err_must_be_surer() -> None:
    judged = Judged()
    thresholds = Thresholds(CacheSettings(), judged, CALIBRATION)
    assert thresholds.of("acme", "small", "r-1") == THRESHOLD
    for _ in range(20):
        judged.judge(entry_name("acme", "r-1"), 1, 1)
    assert thresholds.of("acme", "small", "r-1") > THRESHOLD
    assert thresholds.of("acme", "small", "r-2") == THRESHOLD
    for _ in range(20):
        judged.judge(tenant_name("acme"), 1, 1)
    assert thresholds.of("acme", "small", "r-2") > THRESHOLD
    assert thresholds.of("other", "small", "r-1") == THRESHOLD


def test_budgets_of_a_tenant_and_of_a_model_take_the_place_of_the_common_one() -> None:
    settings = CacheSettings(error_budget_by_tenant={"acme": 0.05}, error_budget_by_model={"large": 0.001})
    thresholds = Thresholds(settings, Judged(), CALIBRATION)
    asked = [("acme", "small"), ("acme", "large"), ("other", "large"), ("other", "small")]
    assert [thresholds.budget(*each) for each in asked] == [0.05, 0.001, 0.001, 0.01]


def test_what_is_judged_is_remembered_within_bounds() -> None:
    judged = Judged(most_entries=10)
    for number in range(100):
        judged.judge(str(number), 1, 0)
    assert [judged.of(str(number))[0] for number in (0, 89, 90, 99)] == [0, 0, 1, 1]
