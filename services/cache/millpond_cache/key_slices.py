"""All entries, a part at a time: no more of them are ever in memory. Pure."""

from __future__ import annotations

SLICE = 5_000
"""Entries that are looked at together, or a few more where there are over a million."""


def slices(entries: int) -> list[str]:
    """What keys begin with, so that each has SLICE of so many entries or fewer.

    Keys are hashes: each slice is a fair sample of all.
    """
    digits = next((digits for digits in (0, 1, 2) if entries <= SLICE * 16**digits), 2)
    return [f"{number:0{digits}x}" if digits else "" for number in range(16**digits)]
