"""The cost model learns what rows take, whatever a few of them took."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from millpond_batcher.cost_model import WINDOW, Cost, CostModel, Ran

PRIOR = Cost(token_s=0.05, row_token_s=0.001, prompt_token_s=0.005)

positive = st.floats(1e-4, 0.05)


def rows(cost: Cost, seed: int, count: int, *, outliers: float = 0.0) -> list[Ran]:
    chance = random.Random(seed)
    ran: list[Ran] = []
    for _ in range(count):
        prompt, output, beside = chance.randint(10, 500), chance.randint(4, 256), chance.uniform(1, 64)
        seconds = cost.mean_s(prompt, output, beside) * chance.uniform(0.95, 1.05)
        ran.append(Ran(prompt, output, beside, seconds * (20 if chance.random() < outliers else 1)))
    return ran


@given(positive, st.floats(1e-5, 0.002), st.floats(1e-5, 0.01), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_what_a_row_takes_is_learned_within_a_tenth_though_one_in_ten_takes_twenty_times_as_long(
    token_s: float, row_token_s: float, prompt_token_s: float, row_s: float, seed: int
) -> None:
    true = Cost(token_s, row_token_s, prompt_token_s, row_s)
    model = CostModel(PRIOR, 64)
    for ran in rows(true, seed, WINDOW, outliers=0.1):
        model.observe(ran)
    for prompt, output, beside in ((50, 40, 8), (400, 200, 64), (20, 200, 32)):
        assert abs(model.cost.mean_s(prompt, output, beside) / true.mean_s(prompt, output, beside) - 1) < 0.1


def test_before_anything_ran_what_was_configured_is_believed() -> None:
    assert CostModel(PRIOR, 64).cost == PRIOR


def test_an_engine_that_becomes_slower_is_learned_anew() -> None:
    model = CostModel(PRIOR, 64)
    slower = Cost(0.2, 0.001, 0.005)
    for ran in [*rows(PRIOR, 1, 1000), *rows(slower, 2, WINDOW)]:
        model.observe(ran)
    assert abs(model.cost.mean_s(100, 100, 32) / slower.mean_s(100, 100, 32) - 1) < 0.1


@given(
    st.lists(
        st.builds(Ran, st.integers(0, 10_000), st.integers(0, 10_000), st.floats(1, 512), st.floats(0, 1e6)),
        max_size=10,
    )
)
def test_no_prediction_is_less_than_nothing(those: list[Ran]) -> None:
    model = CostModel(PRIOR, 64)
    for ran in those * 16:
        model.observe(ran)
    assert model.cost.run_s(0, 0, 1) >= 0
    assert model.cost.run_s(2000, 2000, 64) >= model.cost.run_s(10, 10, 1) >= 0


def test_rows_all_alike_leave_open_what_the_configuration_says() -> None:
    """Nothing but one length and one load was seen: other lengths still have a sensible price."""
    model = CostModel(PRIOR, 64)
    for _ in range(WINDOW):
        model.observe(Ran(100, 32, 1, 0.4))
    assert abs(model.cost.mean_s(100, 32, 1) - 0.4) < 0.04
    assert model.cost.mean_s(100, 64, 1) > 0.5
