"""The figures of an evaluation, where their values are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_heads import small_heads, unit

from millpond_cli.router_evaluation import (
    LabelChances,
    Labelled,
    Scored,
    StrongWeak,
    best_of_models,
    known_models,
    labelled,
    strong_or_weak,
)
from millpond_cli.typos import with_typos
from millpond_router.evaluation import STRONG, WEAK, accuracy_and_f1, area_under_roc, recovered
from millpond_router.heads import Answers


def answers_of(models: tuple[str, ...], quality: list[list[float]]) -> Answers:
    heads = small_heads()
    found = heads.ask(np.repeat(unit(1), len(quality), axis=0), ["text"] * len(quality))
    labels = replace(heads.labels, models=models)
    return replace(found, labels=labels, quality=np.array(quality, np.float32))


def test_a_random_order_recovers_half_and_the_best_order_more() -> None:
    random = np.random.default_rng(0)
    gain = random.choice([1.0, 0.0, -1.0], 20_000, p=[0.3, 0.6, 0.1])
    assert recovered(gain, 0.6, 0.8, random.random(20_000))[0] == pytest.approx(0.5, abs=0.03)
    best = recovered(gain, 0.6, 0.8, gain)
    worst = recovered(gain, 0.6, 0.8, -gain)
    assert best[0] > 1
    assert worst[0] < 0
    assert best[1] < 0.3 < worst[1]


def test_a_gain_that_is_the_same_everywhere_is_recovered_evenly() -> None:
    apgr, share = recovered(np.full(1000, 0.2), 0.6, 0.8, np.zeros(1000))
    assert apgr == pytest.approx(0.5)
    # 0.6 + 0.2 * share = 0.95 * 0.8
    assert share == pytest.approx(0.8)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_the_area_under_roc_is_how_often_a_positive_is_ahead(rows: list[tuple[bool, int]]) -> None:
    positive, score = np.array([p for p, _ in rows], bool), np.array([s for _, s in rows], float)
    pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    found = area_under_roc(positive, score)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


def test_accuracy_and_macro_f1() -> None:
    accuracy, f1 = accuracy_and_f1(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert accuracy == 0.75
    assert f1 == pytest.approx((0.8 + 2 / 3) / 2)


def test_labels_that_belong_to_no_other_count_for_the_area_and_not_for_accuracy() -> None:
    rows = [Labelled(text="x", label=label) for label in ("a", "b", "oos", "c")]
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.5, 0.5]], np.float32)
    figures, decisions = labelled(rows, LabelChances(("a", "b"), chances, np.array([0, 0, 1, 0])))
    assert list(decisions) == ["a", "a", "a", "a"]
    assert figures["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["out_of_scope_auroc"] == 1
    assert figures["unknown_labels"] == ["c"]
    assert figures["baselines"]["most_frequent_label"] == pytest.approx(1 / 3, abs=1e-4)


def test_strong_or_weak_stands_beside_those_that_look_at_nothing() -> None:
    rows = [StrongWeak(prompt="x" * (n + 1), weak=n % 2, strong=1) for n in range(40)]
    promised = [[0.9 if n % 2 else 0.1, 0.95] for n in range(40)]
    figures, decisions = strong_or_weak(rows, answers_of((WEAK, STRONG), promised))
    assert figures["apgr"] == pytest.approx(0.75, abs=0.01)
    assert figures["strong_share_at_95"] == pytest.approx(0.45)
    # Equal promises fall on one side together.
    assert [decision == "strong" for decision in decisions] == [not row.weak for row in rows]
    assert figures["baselines"]["random"] == {"apgr": 0.5, "strong_share_at_95": 0.9}
    assert figures["baselines"]["always_weak"]["accuracy"] == 0.5
    assert figures["baselines"]["prompt_length"]["apgr"] == pytest.approx(0.5, abs=0.03)


def test_the_best_of_several_models_with_what_it_costs() -> None:
    rows = [Scored(question="x", scores={"a": n % 2, "b": 1 - n % 2, "new": 0.2}) for n in range(10)]
    quality = [[0.9, 0.1] if n % 2 else [0.2, 0.8] for n in range(10)]
    figures, chosen = best_of_models(rows, answers_of(("a", "b"), quality), {"a": 0.1, "b": 0.3, "new": 1})
    assert figures["mean_score"] == 1
    assert figures["above_best_single"] == 0.5
    assert figures["unknown_models"] == ["new"]
    assert figures["mean_cost_usd"] == pytest.approx(0.2)
    assert figures["baselines"]["oracle"]["mean_score"] == 1
    assert list(chosen) == ["b", "a"] * 5
    with pytest.raises(ValueError, match="the heads know none"):
        known_models([Scored(question="x", scores={"other": 1})], ("a", "b"))


@given(st.text())
def test_typos_are_the_same_each_time_and_few(text: str) -> None:
    wrong = with_typos(text)
    assert wrong == with_typos(text)
    assert abs(len(wrong) - len(text)) <= max(1, round(0.02 * len(text)))
    if not any(letter.isalpha() for letter in text):
        assert wrong == text
