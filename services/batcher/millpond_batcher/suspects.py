"""Which request makes its model die: found by halving the company that it keeps. Pure.

When a model dies, each row that ran may be the cause. They run again apart from all others, in halves: the half without
the cause is answered, the other dies again and is halved again, until one row dies alone. How often a request saw its
model die is in its attempts, so a batcher that takes it over goes on where the last one was.
"""

from __future__ import annotations

from millpond.v1 import envelope_pb2
from millpond_core.errors import Code


def deaths_of(routed: envelope_pb2.Routed, model: str) -> int:
    """How often the model died, or fell silent, under this request."""
    return sum(each.model == model and each.error.code == Code.ENGINE_UNAVAILABLE for each in routed.attempts)


def company_of(deaths: int, rows: int) -> int:
    """How many rows of as many deaths may run together, where `rows` do without any."""
    return max(rows >> deaths, 1)


def is_poison(deaths: int, rows: int) -> bool:
    """Whether a request whose model has died this often is the cause.

    It was alone the last two times: once may have been a chance, as a machine that was switched off.
    """
    return deaths >= 2 and rows >> (deaths - 2) <= 1
