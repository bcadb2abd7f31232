"""What the trained heads are asked, and that no text makes them stumble."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cache.agreement import FEATURES, MOST_WORDS, features, shipped_agreement
from millpond_cache.cacheable import PATTERNS, CacheabilityHead, shipped_head, signs_of
from millpond_cache.forest import Forest, Tree

TEXTS = st.text(max_size=80) | st.sampled_from(
    ["", " ", "how deep is the sea", "How deep is the sea?", "日本の海はどのくらい深いですか", "🌊🌊", "ß" * 50, "'''"]
)
COSINES = st.floats(-1, 1)
LOGITS = st.floats(-50, 50)


@given(TEXTS, TEXTS, COSINES, LOGITS)
def test_any_two_texts_have_signs_and_a_probability(cached: str, asked: str, cosine: float, logit: float) -> None:
    signs = features(cached, asked, cosine, logit)
    assert signs.shape == (len(FEATURES),)
    assert np.isfinite(signs).all()
    assert 0 < shipped_agreement().probability(cached, asked, cosine, logit) < 1


@given(TEXTS)
def test_a_text_and_itself_differ_in_nothing(text: str) -> None:
    signs = dict(zip(FEATURES, features(text, text, 1.0, 0.0), strict=True))
    assert signs["unshared_most"] == signs["substituted"] == signs["inversions"] == 0
    assert signs["same_opening"] == signs["same_question_word"] == 1
    assert all(signs[name] == 0 for name in FEATURES if name.startswith("guard_"))


def test_words_that_change_places_are_told_by_their_order() -> None:
    names = dict(zip(FEATURES, features("lend alice bob", "lend bob alice", 1.0, 0.0), strict=True))
    assert names["shared"] == 1
    assert names["in_order"] < 1
    assert names["inversions"] == 1


def test_of_a_long_text_the_order_of_its_beginning_counts() -> None:
    long = " ".join(f"word{number}" for number in range(50_000))
    signs = dict(zip(FEATURES, features(long, long, 1.0, 0.0), strict=True))
    assert signs["in_order"] == 1
    assert signs["words"] == 50_000
    assert MOST_WORDS < 50_000


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_tree_goes_left_up_to_its_threshold(threshold: float, sign: float) -> None:
    tree: Tree = {
        "feature": [0, -1, -1],
        "threshold": [threshold, 0, 0],
        "left": [1, 0, 0],
        "right": [2, 0, 0],
        "value": [0, -1.0, 1.0],
    }
    assert Forest.of([tree, tree], 0.5).log_odds(np.array([[sign]])) == 0.5 + (-2.0 if sign <= threshold else 2.0)


@given(TEXTS, TEXTS, COSINES, LOGITS)
def test_no_logit_makes_a_pair_more_probable_than_it_is_at_most(
    cached: str, asked: str, cosine: float, logit: float
) -> None:
    head = shipped_agreement()
    assert head.probability(cached, asked, cosine, logit) <= head.most_probable(cached, asked, cosine)


@given(st.floats(-10, 10), st.floats(-10, 10), st.permutations([1.0, 2.0, 3.0]))
def test_the_most_that_a_tree_gives_is_the_best_of_what_it_gives_for_any_unknown_sign(
    threshold: float, known: float, values: list[float]
) -> None:
    leaves = [0.0, *values[:1], 0.0, *values[1:]]
    tree: Tree = {
        "feature": [0, -1, 1, -1, -1],
        "threshold": [threshold, 0, 0, 0, 0],
        "left": [1, 0, 3, 0, 0],
        "right": [2, 0, 4, 0, 0],
        "value": leaves,
    }
    forest = Forest.of([tree], 0.0)
    most = forest.most(np.array([[0.0, known]]), 0)
    assert most == forest.log_odds(np.array([[-20.0, known], [20.0, known]])).max()


def test_a_pair_that_the_verifier_doubts_is_less_probable_than_one_that_it_is_sure_of() -> None:
    pair = ("How do I close my savings account?", "How can I close my savings account?")
    sure, doubted = (shipped_agreement().probability(*pair, 0.97, logit) for logit in (6.0, -6.0))
    assert doubted < sure


# Whether an answer may be given again


def test_the_shipped_head_knows_every_pattern_and_the_embedder_that_the_other_was_fitted_on() -> None:
    head = shipped_head()
    assert head.signs.shape == (len(PATTERNS),)
    assert np.isfinite(head.weights).all()
    assert head.embedder in shipped_agreement().embedders


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is my balance?", "own_sum"),
        ("how much did I spend", "how_much_mine"),
        ("What's the weather right now", "moment"),
        ("Please transfer it to Anna", "order"),
        ("Is €50 much?", "sum_of_money"),
        ("How do I open an account", "how"),
    ],
)
def test_a_pattern_is_seen_whatever_its_letters_and_spaces(text: str, name: str) -> None:
    place = [each for each, _ in PATTERNS].index(name)
    for said in (text, text.upper(), text.replace(" ", "  \n"), f"  {text}"):
        assert signs_of(said)[place] == 1
    assert not signs_of("the sea").any()


LONG = f"{'The mill stands by the pond. ' * 50} It grinds now. {'The mill stands by the pond. ' * 50}"
"""A text of which no embedder reads all. What is asked of it says nothing of "now"."""


@given(st.floats(-20, 20, width=32), st.floats(0.01, 0.99))
def test_what_is_allowed_is_what_is_probable_enough(weight: float, least: float) -> None:
    head = CacheabilityHead("e", np.array([weight], np.float32), np.zeros(len(PATTERNS), np.float32), 0.0, least)
    vector = np.ones(1, np.float32)
    probability = head.probability("the sea", vector)
    assert math.isclose(probability, 1 / (1 + math.exp(-weight)), rel_tol=1e-5)
    assert head.allows("the sea", vector, "e") == (probability >= least)
    # What it was not trained on it does not judge, and the words alone say nothing against.
    assert head.allows("the sea", vector, "f")
    assert head.allows("the sea", None, "e")


@pytest.mark.parametrize(
    "text",
    [
        "What is my balance?",
        "Do I have any money left?",
        "What's the weather right now",
        "Cancel my order",
        f"What is my balance? {LONG}",
        f"{LONG} And what is my balance?",
        f"  Please send this to Anna: {LONG}",
    ],
)
def test_without_a_vector_that_the_head_knows_the_words_of_a_personal_question_are_enough(text: str) -> None:
    for vector, embedder in ((None, ""), (np.ones(1, np.float32), "f")):
        assert not shipped_head().allows(text, vector, embedder)


@pytest.mark.parametrize(
    "text",
    ["How deep is the sea?", "How do I open my account?", LONG, f"Summarise this: {LONG}", f"{LONG} Summarise it."],
)
def test_what_does_not_say_that_it_is_personal_is_matched_exactly_as_before(text: str) -> None:
    assert shipped_head().allows(text, None, "")
