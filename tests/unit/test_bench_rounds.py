"""What a benchmark makes of its measurements."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.bench.pipeline.hops import SLICES, WARM, rates, tracing_us
from millpond_cli.bench.rounds import Series, interleaved, ratio
from millpond_cli.figures import is_met, percentile, target


def test_every_round_measures_each_contender_once_and_keeps_its_median() -> None:
    order: list[str] = []
    numbers = itertools.count()

    def measure(name: str) -> list[float]:
        order.append(name)
        number = next(numbers)
        return [number, 1000.0, -1000.0]

    found = interleaved({"a": lambda: measure("a"), "b": lambda: measure("b")}, 2, said=lambda _: None)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": Series((0, 2)), "b": Series((1, 3))}


def test_one_disturbed_round_moves_neither_median_nor_spread() -> None:
    quiet = Series((100, 101, 102, 103, 104, 105, 106))
    assert quiet.median == 103
    disturbed = Series((*quiet.medians[:6], 1))
    assert disturbed.median == 102
    assert disturbed.spread == pytest.approx(quiet.spread, abs=0.02)


def test_a_ratio_is_of_the_same_round() -> None:
    assert ratio(Series((1, 20)), Series((2, 10))) == Series((0.5, 2))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_such_a_share_does_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_a_rate_is_of_what_came_after_the_first() -> None:
    """Two records a millisecond, after a slow beginning that does not count."""
    cold = round(4000 * WARM)
    times = [0] * cold + [5000 + number // 2 for number in range(4000 - cold)]
    found = rates(times)
    assert len(found) == SLICES
    assert found == pytest.approx([2000] * SLICES, rel=0.01)


def test_tracing_is_told_as_time_for_each_record() -> None:
    assert tracing_us(Series((10_000,)), Series((5_000,))).median == pytest.approx(100)


def test_a_target_is_met_on_its_bound() -> None:
    assert is_met(target("a", 1, "s", 1, "lower")) and is_met(target("a", 1, "s", 1, "higher"))
    assert not is_met(target("a", 2, "s", 1, "lower")) and not is_met(target("a", 0, "s", 1, "higher"))
