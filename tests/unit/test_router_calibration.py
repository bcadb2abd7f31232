"""A calibration rises, moves promises towards outcomes, and little where there are few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.calibration import AS_PROMISED, PRIOR, Calibration, calibrate, calibration_error, pooled

OUTCOMES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=60)


@given(OUTCOMES)
def test_it_rises_and_stays_a_probability(outcomes: list[tuple[float, float]]) -> None:
    line = calibrate([promised for promised, _ in outcomes], [good for _, good in outcomes])
    values = line(np.linspace(0, 1, 50))
    assert (np.diff(values) >= 0).all()
    assert ((values >= 0) & (values <= 1)).all()


def test_without_outcomes_promises_stay() -> None:
    assert calibrate([], []) == AS_PROMISED
    assert AS_PROMISED.of(0.37) == pytest.approx(0.37)


def test_few_outcomes_move_little_and_many_move_all_the_way() -> None:
    few, many = calibrate([0.9] * 3, [0.0] * 3), calibrate([0.9] * 3000, [0.0] * 3000)
    assert 0.7 < few.of(0.9) < 0.9
    assert many.of(0.9) < 0.1


@pytest.mark.parametrize("count", [20, 62, 240])
def test_a_promise_counts_as_so_many_outcomes(count: int) -> None:
    line = calibrate([0.8] * count, [0.0] * count)
    assert line.of(0.8) == pytest.approx(0.8 * PRIOR / (count + PRIOR), abs=0.01)


def test_outcomes_in_one_place_say_how_much_promises_are_off_elsewhere() -> None:
    halved = calibrate([0.8] * 5000, [0.4] * 5000)
    assert halved.of(0.2) == pytest.approx(0.1, abs=0.02)
    assert halved.of(1.0) == pytest.approx(0.5, abs=0.03)


def test_promises_that_are_too_high_are_put_right() -> None:
    random = np.random.default_rng(0)
    promised = random.random(6000)
    good = (random.random(6000) < promised**2).astype(float)
    line = calibrate(promised[:3000], good[:3000])
    assert calibration_error(promised[3000:], good[3000:]) > 0.1
    assert calibration_error(line(promised[3000:]), good[3000:]) < 0.05


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_pooling_keeps_the_weighted_mean_and_leaves_what_rises(values: list[tuple[float, float]]) -> None:
    numbers, weights = np.array([value for value, _ in values]), np.array([weight for _, weight in values])
    rising = pooled(numbers, weights)
    assert (np.diff(rising) >= -1e-12).all()
    assert (rising * weights).sum() == pytest.approx((numbers * weights).sum())
    assert np.allclose(pooled(np.sort(numbers), weights), np.sort(numbers))


@pytest.mark.parametrize("points", [((0, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 1), (0, 2)), ((), ())])
def test_a_line_that_falls_or_is_none_is_refused(points: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="points must"):
        Calibration(*points)
