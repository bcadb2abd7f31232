"""Money: exact, additive, and written with six places."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from millpond.v1.result_pb2 import Usage
from millpond_core.cost import FREE, MILLION, Price, cost, dollars, synchronous_cost
from millpond_core.settings import Settings

tokens = st.integers(0, 1 << 40)
usages = st.builds(Usage, input_tokens=tokens, output_tokens=tokens)
amounts = st.decimals(0, 1000, places=4)
prices = st.builds(Price, amounts, amounts)


def test_a_million_tokens_cost_the_price() -> None:
    price = Price(Decimal("0.15"), Decimal("0.60"))
    assert cost(Usage(input_tokens=MILLION), price) == Decimal("0.15")
    assert cost(Usage(output_tokens=MILLION), price) == Decimal("0.60")


def test_the_known_case() -> None:
    usage = Usage(input_tokens=61, output_tokens=32)
    assert dollars(synchronous_cost(usage, Settings().models)) == "0.000930"


@given(usages)
def test_an_answer_from_the_cache_costs_nothing(usage: Usage) -> None:
    assert dollars(cost(usage, FREE)) == "0.000000"


@given(usages, usages, prices)
def test_attempts_cost_together_what_they_cost_apart(one: Usage, other: Usage, price: Price) -> None:
    both = Usage(
        input_tokens=one.input_tokens + other.input_tokens, output_tokens=one.output_tokens + other.output_tokens
    )
    assert cost(both, price) == cost(one, price) + cost(other, price)


@given(st.decimals(0, 10**9, allow_nan=False))
def test_what_is_written_is_within_half_a_millionth(amount: Decimal) -> None:
    written = dollars(amount)
    assert len(written.partition(".")[2]) == 6
    assert abs(Decimal(written) - amount) <= Decimal("0.0000005")
