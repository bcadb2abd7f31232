"""What tokens cost. Pure; dollars are Decimal until they are written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from millpond.v1 import result_pb2

if TYPE_CHECKING:
    from millpond_core.settings import ModelSettings

MILLION = 1_000_000
PLACES = Decimal("0.000001")
"""A result's costs are exact to a millionth of a dollar: one token at a dollar per million."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal


FREE = Price(Decimal(0), Decimal(0))
"""What an answer from the cache costs."""


def cost(usage: result_pb2.Usage, price: Price) -> Decimal:
    """Dollars, unrounded: costs of several attempts are added before they are written down."""
    return (usage.input_tokens * price.input + usage.output_tokens * price.output) / MILLION


def synchronous_cost(usage: result_pb2.Usage, models: Iterable[ModelSettings]) -> Decimal:
    """Dollars for the same tokens at the large model's synchronous price: the model whose role is `frontier`."""
    large = next(model for model in models if model.role == "frontier")
    return cost(usage, large.price.synchronous)


def dollars(amount: Decimal) -> str:
    """As results carry it: "0.000930". Half goes to the even digit, so that sums do not drift."""
    return str(amount.quantize(PLACES, ROUND_HALF_EVEN))
