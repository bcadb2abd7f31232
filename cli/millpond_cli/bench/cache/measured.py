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
    """milliseconds: of each look-up alone. verified_ms: of those of them that the verifier read a pair for. per_s:
    look-ups a second, POLL at a time. reasons: how often each of them had which.
    """

    milliseconds: Sequence[float]
    verified_ms: Sequence[float]
    per_s: float
    reasons: dict[str, int]
