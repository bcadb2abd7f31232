"""Laws of what an engine is given at a time: within its bounds, less where rows wait, more where it was used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from millpond_batcher.limit import Limit, limit_of
from millpond_batcher.settings import BatcherSettings, policy_of

MOST = 64
TARGET_S = 5.0

SETTINGS = BatcherSettings()
POLICY = policy_of(SETTINGS, SETTINGS.batcher, SETTINGS.model_of_role("small"))

answers = st.lists(st.tuples(st.floats(0, 20), st.integers(1, MOST)), max_size=200)
"""Seconds that a row waited in the engine, and how many ran when it came back."""


def after(those: Sequence[tuple[float, int]], least: int = 3, spare: int = 3) -> Limit:
    """Each was sent when the one before it came back."""
    limit = Limit(MOST, least=least, spare=spare, target_s=TARGET_S)
    for second, (waited_s, running) in enumerate(those):
        limit.answered(sent_s=second, now=second + 1, waited_s=waited_s, running=running)
    return limit


@given(answers, st.integers(1, 2 * MOST))
def test_a_limit_stays_within_its_bounds(those: Sequence[tuple[float, int]], least: int) -> None:
    assert min(least, MOST) <= after(those, least).rows <= MOST


@given(answers)
def test_it_never_falls_while_no_row_waits_too_long_nor_rises_while_all_do(those: Sequence[tuple[float, int]]) -> None:
    limit = after([(2 * TARGET_S, 1)] * 3)
    for second, (_, running) in enumerate(those, 100):
        before = limit.rows
        limit.answered(sent_s=second, now=second + 1, waited_s=0, running=running)
        assert limit.rows >= before
    for second in range(1000, 1020):
        before = limit.rows
        limit.answered(sent_s=second, now=second + 1, waited_s=2 * TARGET_S, running=limit.rows)
        assert limit.rows <= before


@given(st.integers(2, MOST))
def test_rows_that_were_sent_before_a_cut_make_no_second_one(rows: int) -> None:
    limit = Limit(MOST, least=1, spare=1, target_s=TARGET_S)
    for place in range(rows):
        limit.answered(sent_s=0, now=10 + place, waited_s=2 * TARGET_S, running=rows - place)
    once = Limit(MOST, least=1, spare=1, target_s=TARGET_S)
    once.answered(sent_s=0, now=10, waited_s=2 * TARGET_S, running=rows)
    assert limit.rows == once.rows < MOST


def test_a_limit_that_is_used_comes_back_a_row_for_each_of_its_fills_and_one_that_is_not_stays() -> None:
    limit = after([(2 * TARGET_S, MOST)], least=1, spare=1)
    cut = limit.rows
    for _ in range(1000):
        limit.answered(sent_s=100, now=101, waited_s=0, running=cut - 1)
    assert limit.rows == cut
    for _ in range(cut + 1):
        limit.answered(sent_s=100, now=101, waited_s=0, running=limit.rows)
    assert limit.rows == cut + 1


@given(st.integers(0, MOST // 4), st.integers(1, MOST // 4))
def test_bulk_that_leaves_the_reserved_places_free_and_comes_in_refills_brings_it_back(
    reserved: int, refill: int
) -> None:
    """The law of what is sent, as in plan.py: it goes up to the reserved places, when so many of its own are free."""
    policy = replace(POLICY, reserved_rows=reserved, refill_rows=refill)
    limit = limit_of(policy, MOST, TARGET_S)
    for second in range(20):
        limit.answered(sent_s=second, now=second + 1, waited_s=2 * TARGET_S, running=1)
    assert limit.rows == reserved + 1
    running = 0
    for second in range(100, 100 + MOST * MOST):
        bulk = max(limit.rows - reserved, 1)
        if running == 0 or bulk - running >= refill:
            running = bulk
        limit.answered(sent_s=second, now=second + 1, waited_s=0, running=running)
        running -= 1
    assert limit.rows == MOST
