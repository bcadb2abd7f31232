"""Labels are learned from labelled texts, and what is like none of them stands out."""

from __future__ import annotations

import numpy as np
import pytest

from millpond_router.intents import LARGEST, fit_intents

RANDOM = np.random.default_rng(0)
MIDDLES = np.eye(16, dtype=np.float32)[:3]
LABELS = ["transfer", "balance", "recipe"]


def around(middle: np.ndarray, texts: int) -> np.ndarray:
    vectors = middle + RANDOM.normal(0, 0.15, (texts, 16)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_labels_are_learned_and_what_is_like_none_is_strange() -> None:
    vectors = np.concatenate([around(middle, 30) for middle in MIDDLES])
    intents = fit_intents(vectors, [label for label in LABELS for _ in range(30)])
    for place, middle in enumerate(MIDDLES):
        said = intents.says(around(middle, 20))
        assert said.chances.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
        assert {said.labels[int(best)] for best in said.chances.argmax(axis=1)} == {LABELS[place]}
    far, near = intents.says(around(np.eye(16)[9], 20)), intents.says(around(MIDDLES[0], 20))
    assert far.strangeness.min() > near.strangeness.max()


@pytest.mark.parametrize("texts", [0, LARGEST + 1])
def test_there_must_be_some_texts_and_not_too_many(texts: int) -> None:
    with pytest.raises(ValueError, match="must be 1 to"):
        fit_intents(np.zeros((texts, 1), np.float32), ["a"] * texts)
