"""The words and letters of a text as a sparse vector: hashed character n-grams, in any language. Pure.

An embedding says what a text means; which words say it is what often tells two close intents apart.
Source: feature hashing (Weinberger et al. 2009) of character n-grams (Cavnar and Trenkle 1994), weighted by inverse
document frequency (Spärck Jones 1972).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 14
"""Places that n-grams are hashed to: a table of 16,384 rows of int8 is small enough to be shipped."""

LENGTHS = (2, 3, 4, 5)
"""Bytes of an n-gram. A blank stands before and after every word, so beginnings and ends of words have their own."""

LOOKED_AT_BYTES = 1024
"""Of a text. What it is about is said by then, and the time for it is bounded."""

_WORD = re.compile(r"[^\W_]+|[^\w\s]")
_PRIMES = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
"""Odd 64-bit numbers without a pattern, one for each place in an n-gram."""
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_SHIFT = np.uint64(64 - 14)


def ngrams(text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(buckets in rising order, 1 + log of how often each is hit); both empty where the text has no letter."""
    words = _WORD.findall(text[:LOOKED_AT_BYTES].lower())
    data = np.frombuffer(f" {' '.join(words)} ".encode()[:LOOKED_AT_BYTES], np.uint8).astype(np.uint64)
    hashes: list[NDArray[np.uint64]] = []
    running = np.zeros(len(data), np.uint64)
    for length in range(1, LENGTHS[-1] + 1):
        room = len(data) - length + 1
        if room <= 0:
            break
        running = running[:room] + (data[length - 1 :] + np.uint64(1)) * _PRIMES[length - 1]
        if length in LENGTHS:
            hashes.append((running ^ (running >> np.uint64(29))) * _MIX >> _SHIFT)
    if len(data) <= 2 or not hashes:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    counts = np.bincount(np.concatenate(hashes).astype(np.int64), minlength=BUCKETS)
    buckets = np.flatnonzero(counts)
    return buckets, (1 + np.log(counts[buckets])).astype(np.float32)


def document_frequency(texts: Sequence[str]) -> NDArray[np.float32]:
    """[BUCKETS]: log((1 + texts) / (1 + texts with an n-gram in the bucket)) + 1."""
    found = np.zeros(BUCKETS, np.int64)
    for text in texts:
        found[ngrams(text)[0]] += 1
    return (np.log((1 + len(texts)) / (1 + found)) + 1).astype(np.float32)
