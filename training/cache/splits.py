"""Which pairs are trained on, have heads fitted on them, are calibrated or only tested on: no text is in two. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

Part = Literal["train", "fit", "calibrate", "test"]

SHARES: tuple[tuple[Part, float], ...] = (("train", 0.72), ("fit", 0.08), ("calibrate", 0.1), ("test", 0.1))


def part_of(name: str) -> Part:
    """The part of whatever has this name, by hash: the same on each machine and whatever else there is."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    for part, share in SHARES:
        if place < share:
            return part
        place -= share
    return SHARES[-1][0]


def component_names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """For each pair the name of its connected component: the first, in order of the alphabet, of its texts.

    Two texts that stand in one pair are connected, whether they mean the same or not. Source: union by path halving
    (Tarjan and van Leeuwen 1984).
    """
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return [root(one) for one, _ in pairs]


def parts_of(pairs: Iterable[tuple[str, str]]) -> list[Part]:
    """The part of each pair, by its connected component."""
    return [part_of(name) for name in component_names(list(pairs))]
