"""How look-ups are asked, and what is found of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POLL = 64
"""Look-ups in one call, as the stream brings them."""

AT_ONCE = 2
"""Such calls under way at a time."""


@dataclass(frozen=True)
class Measured:
    """milliseconds: of each look-up alone. per_s: look-ups a second, POLL at a time. outcomes: how often each came."""

    milliseconds: Sequence[float]
    per_s: float
    outcomes: dict[str, int]
