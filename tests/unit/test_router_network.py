"""A small network learns what it is shown, says the same each time, and an ensemble of them is one network."""

from __future__ import annotations

import numpy as np
import pytest

from millpond_router.network import Fitting, Target, entropy, fit, sigmoid, softmax

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(600, 6)).astype(np.float32)
CLASS = (INPUTS[:, 0] > 0).astype(int) + (INPUTS[:, 1] > 0)
ONE_OF = Target(np.eye(3, dtype=np.float32)[CLASS], one_of=True)
YES = Target((INPUTS[:, 2:3] > 0).astype(np.float32), one_of=False)
HOW = Fitting(hidden=24, epochs=40, rows=64, rate=1e-2, decay=1e-3, dropped=(0, 0.1), smoothing=0.02)


def test_it_learns_several_things_at_once() -> None:
    classes, yes = fit(INPUTS[:500], [ONE_OF_500, YES_500], HOW).logits(INPUTS[500:])
    assert (classes.argmax(1) == CLASS[500:]).mean() > 0.85
    assert ((yes[:, 0] > 0) == (INPUTS[500:, 2] > 0)).mean() > 0.85


ONE_OF_500 = Target(ONE_OF.values[:500], one_of=True)
YES_500 = Target(YES.values[:500], one_of=False)


def test_the_same_seed_gives_the_same_network_and_another_one_another() -> None:
    quick = Fitting(hidden=8, epochs=2, rows=64)
    one, same = (fit(INPUTS, [ONE_OF], quick) for _ in range(2))
    other = fit(INPUTS, [ONE_OF], Fitting(hidden=8, epochs=2, rows=64, seed=1))
    assert np.array_equal(one.first, same.first)
    assert not np.array_equal(one.first, other.first)


def test_an_ensemble_says_the_mean_of_its_members() -> None:
    together = fit(INPUTS, [ONE_OF, YES], Fitting(hidden=8, members=2, epochs=2, rows=64))
    alone = [fit(INPUTS, [ONE_OF, YES], Fitting(hidden=8, epochs=2, rows=64, seed=seed)) for seed in (0, 1)]
    for place in (0, 1):
        mean = np.mean([member.logits(INPUTS)[place] for member in alone], axis=0)
        assert np.allclose(together.logits(INPUTS)[place], mean, atol=1e-4)


def test_what_is_not_known_teaches_nothing() -> None:
    unknown = Target(np.full((600, 1), np.nan, np.float32), one_of=False)
    quick = Fitting(hidden=8, epochs=1, rows=64, decay=0, dropped=(0, 0), smoothing=0)
    assert np.array_equal(
        fit(INPUTS, [unknown], quick).first, fit(INPUTS[:64], [Target(unknown.values[:64], False)], quick).first
    )


def test_probabilities_of_any_logits_are_finite() -> None:
    extreme = np.array([[1e4, -1e4, 0]], np.float32)
    assert softmax(extreme).sum() == pytest.approx(1)
    assert np.isfinite(sigmoid(extreme)).all()
    assert entropy(np.array([[1, 0], [0.5, 0.5]], np.float32)) == pytest.approx([0, np.log(2)], abs=1e-6)
