"""What is cached and what is asked: embedded texts, and as many like them as a benchmark wants. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

SEED = 20261124

CHUNK = 10_000
"""Entries that are made together."""

APART = 0.62
"""Length of the noise that makes another entry's vector of a text's: their cosine is then about 0.85."""

NEAR = 0.33
"""Of the noise between an entry's vector and that of the question that asks for it: a cosine of about 0.95."""

_WHO = "child nurse farmer driver teacher student singer"
_MANNERS = "quiet busy small large old modern simple famous sunny rainy distant local private crowded empty noisy"
_PLACES = "school office garden kitchen forest village harbour market theatre library museum"

ENDINGS = tuple(
    f" for a {who} in a {manner} {place}"
    for who, manner, place in product(_WHO.split(), _MANNERS.split(), _PLACES.split())
)
"""What tells the entries of one text apart. Plain words: numbers and names would be the guards' to tell apart, and the
verifier would have less to do."""


@dataclass(frozen=True)
class Texts:
    """vectors: float32 [entries, dimension], of L2 norm 1."""

    texts: Sequence[str]
    vectors: NDArray[np.float32]


def part(base: Texts, number: int) -> Texts:
    """The entries from number × CHUNK on. The first ones are the texts of `base` themselves.

    Raises ValueError where there are not as many different texts.
    """
    chance = np.random.default_rng([SEED, number])
    places = np.arange(number * CHUNK, (number + 1) * CHUNK)
    count = len(base.texts)
    if places[-1] // count > len(ENDINGS):
        raise ValueError(f"{count} texts make {count * (len(ENDINGS) + 1):,} entries, and not more")
    vectors = base.vectors[places % count]
    moved = _moved(vectors, APART, chance)
    vectors = np.where((places < count)[:, None], vectors, moved)
    texts = [base.texts[at % count] + (ENDINGS[at // count - 1] if at >= count else "") for at in places.tolist()]
    return Texts(texts, vectors)


def asked_for(entries: Texts, chance: np.random.Generator) -> Texts:
    """For each entry a question that is almost the same."""
    return Texts([f"{text}, please" for text in entries.texts], _moved(entries.vectors, NEAR, chance))


def nearest(vectors: NDArray[np.float32], asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Brute force: places of the k of the greatest cosine for each asked one, int64 [asked, k], in no order."""
    return np.argpartition(-(asked @ vectors.T), k, axis=1)[:, :k]


def _moved(vectors: NDArray[np.float32], length: float, chance: np.random.Generator) -> NDArray[np.float32]:
    noise = chance.standard_normal(vectors.shape, dtype=np.float32)
    moved = vectors + length * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
