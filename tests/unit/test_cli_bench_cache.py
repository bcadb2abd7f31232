"""What the cache's benchmark caches and asks."""

from __future__ import annotations

import numpy as np
import pytest

from millpond_cli.bench.cache.entries import CHUNK, ENDINGS, Texts, asked_for, nearest, part
from millpond_cli.commands.bench.cache import counts_of
from millpond_cli.errors import CommandError

DIMENSION = 384


def base(count: int) -> Texts:
    vectors = np.random.default_rng(1).standard_normal((count, DIMENSION), dtype=np.float32)
    return Texts([f"text {place}" for place in range(count)], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_entries_are_the_texts_and_others_like_them() -> None:
    of = base(300)
    first, second = part(of, 0), part(of, 1)
    assert list(first.texts[:300]) == list(of.texts)
    assert len({*first.texts, *second.texts}) == 2 * CHUNK
    assert np.allclose(np.linalg.norm(second.vectors, axis=1), 1, atol=1e-3)
    assert (part(of, 1).vectors == second.vectors).all()


def test_there_are_no_more_entries_than_different_texts() -> None:
    with pytest.raises(ValueError, match="not more"):
        part(base(2), 2 * (len(ENDINGS) + 1) // CHUNK)


def test_a_question_is_nearest_to_the_entry_that_it_is_made_of() -> None:
    entries = part(base(300), 0)
    asked = asked_for(Texts(entries.texts[:50], entries.vectors[:50]), np.random.default_rng(2))
    found = nearest(entries.vectors, asked.vectors, 1)
    assert found[:, 0].tolist() == list(range(50))


@pytest.mark.parametrize("sizes", ["", "ten", "5", "10000,15000", "-10000"])
def test_sizes_are_whole_steps(sizes: str) -> None:
    with pytest.raises(CommandError, match="--sizes"):
        counts_of(sizes)


def test_sizes_are_measured_from_the_smallest_on() -> None:
    assert counts_of("100000,10000") == [10_000, 100_000]
