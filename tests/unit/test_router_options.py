"""The choice by quality: the cheapest that meets the floor; the safe side where no promise holds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.heads import Reading
from millpond_router.options import (
    CHEAPEST,
    NONE_MEETS,
    NOVEL,
    UNSURE,
    Bounds,
    Candidate,
    judgement,
    pick,
)


def reading(novelty: float = 0.0) -> Reading:
    return Reading("1-abc", "banking", 0.9, "question", 0.3, 0.1, novelty, {"weak": 0.6}, {"words": 2.0})


def candidate(name: str, quality: float | None, cost: str, obstacle: str = "") -> Candidate:
    return Candidate(name, quality, quality, Decimal(cost), obstacle)


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        st.none() | st.floats(0, 1),
        st.integers(0, 1000).map(str),
        st.sampled_from(["", "", "forbidden", "context"]),
    ),
    max_size=6,
)


@given(CANDIDATES, st.floats(0, 1))
def test_the_choice_is_the_cheapest_that_meets_the_floor(candidates: list[Candidate], floor: float) -> None:
    picked = pick(candidates, Bounds(floor), reading())
    possible = [each for each in candidates if each.possible]
    if picked is None:
        assert not possible
        return
    taken, reason = picked
    assert taken in possible
    enough = [each for each in possible if (each.quality or 0) >= floor]
    if enough:
        assert taken.cost_usd == min(each.cost_usd for each in enough)
        assert (taken.quality or 0) >= floor
        assert reason.code == CHEAPEST
    else:
        assert taken.quality == max(each.quality or 0 for each in possible)
        assert reason.code == NONE_MEETS


@given(CANDIDATES, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_floor_never_takes_a_worse_model(candidates: list[Candidate], one: float, other: float) -> None:
    low, high = sorted((one, other))
    by_low, by_high = (pick(candidates, Bounds(floor), reading()) for floor in (low, high))
    if by_low and by_high and (by_low[0].quality or 0) < high:
        assert (by_high[0].quality or 0) >= (by_low[0].quality or 0)


@given(CANDIDATES)
def test_a_text_unlike_all_others_goes_to_the_dearest(candidates: list[Candidate]) -> None:
    picked = pick(candidates, Bounds(0.5), reading(novelty=NOVEL + 0.001))
    if picked is not None:
        assert picked[0].cost_usd == max(each.cost_usd for each in candidates if each.possible)
        assert picked[1].code == UNSURE


def test_the_prices_weight_goes_from_the_cheapest_to_the_best() -> None:
    three = [candidate("cheap", 0.6, "1"), candidate("middle", 0.8, "2"), candidate("best", 0.9, "10")]

    def taken(weight: float) -> str:
        picked = pick(three, Bounds(0.5, weight), reading())
        assert picked is not None
        return picked[0].name

    assert [taken(weight) for weight in (1, 0.5, 0)] == ["cheap", "middle", "best"]


def test_every_option_has_a_verdict_the_cheapest_first() -> None:
    all_of_them = [
        candidate("dear", 0.9, "0.01"),
        candidate("cheap", 0.5, "0.0001"),
        candidate("chosen", 0.8, "0.001"),
        candidate("forbidden", 0.9, "0.002", "forbidden"),
        candidate("unknown", None, "0.003"),
    ]
    told = judgement(reading(), all_of_them, Bounds(0.7), "chosen", forced=False, language="en", learned="beef")
    assert [(option.model, option.verdict) for option in told.options] == [
        ("cheap", "quality"),
        ("chosen", "chosen"),
        ("forbidden", "forbidden"),
        ("unknown", "quality"),
        ("dear", "cost"),
    ]
    assert told.heads == "1-abc+beef"
    assert told.options[1].cost_usd == "0.001000"
    assert told.options[1].quality == pytest.approx(0.8)
    assert dict(told.features) == {"words": 2.0}
