"""What two texts must share before one may have the other's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cache.guard import Kind, disagreement

WORDS = ["what", "Paris", "not", "don't", "5", "-5", "1,000", "C++", "foo_bar", "one", "é", "😀", ".", "?", "\n  ", "I"]
ASCII = "".join(map(chr, range(128)))
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@given(TEXTS)
def test_a_text_agrees_with_itself(text: str) -> None:
    assert disagreement(text, text) is None


@given(TEXTS, TEXTS)
def test_it_does_not_matter_which_came_first(one: str, other: str) -> None:
    assert disagreement(one, other) == disagreement(other, one)


@given(TEXTS, st.integers(), st.integers())
def test_another_number_is_another_question(text: str, number: int, other: int) -> None:
    agree = disagreement(f"{text} {number}", f"{text} {other}") is None
    assert agree == (number == other)


@given(TEXTS)
def test_a_denial_is_another_question(text: str) -> None:
    assert disagreement(f"is it so\n{text}", f"is it not so\n{text}") is not None


@given(st.text(alphabet=st.characters(categories=["Lo", "So", "Ll", "Sm"], exclude_characters=ASCII)))
def test_what_the_embedder_cannot_tell_apart_is_compared_as_written(text: str) -> None:
    """Emoji and most scripts are one unknown token to it."""
    assert (disagreement(f"say {text} now", "say now") is None) == (text == "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "Tell me, what's the capital of France?"),
        ("how do I sort a list?", "How do you sort a list"),
        ("It does not work.", "it doesn't work"),
        ("We cannot go", "we can't go"),
        ("two apples", "2 apples"),
        ("It’s not here", "it's not here"),
        ("a loan of $1,000", "a loan of 1000 dollars"),
        ("what is 5k plus 3 percent", "what is 5000 plus 3%"),
        ("weather in Paris", "the weather in paris"),
        ("What is ASAP", "what does asap mean"),
        ("the Indian economy", "the economy of India"),
        ("tea/coffee", "tea or coffee"),
    ],
)
def test_other_words_for_the_same_agree(one: str, other: str) -> None:
    assert disagreement(one, other) is None


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("Convert 5 miles", "Convert 50 miles", Kind.NUMBERS),
        ("Is 5 more than 3?", "Is 3 more than 5?", Kind.NUMBERS),
        ("add -5", "add 5", Kind.NUMBERS),
        ("a 10% rise", "a 10 rise", Kind.NUMBERS),
        ("three rules", "four rules", Kind.NUMBERS),
        ("weather in Paris", "weather in London", Kind.NAMES),
        ("from English to French", "from French to English", Kind.ROLES),
        ("what is C", "what is C#", Kind.IDENTIFIERS),
        ("learn C++ now", "learn C# now", Kind.IDENTIFIERS),
        ("what does os.path.join do", "what does os.path.split do", Kind.IDENTIFIERS),
        ("what is max_tokens", "what is min_tokens", Kind.IDENTIFIERS),
        ("is a < b", "is a > b", Kind.IDENTIFIERS),
        ("what means 😀", "what means 😡", Kind.IDENTIFIERS),
        ("translate 水", "translate 火", Kind.IDENTIFIERS),
        ("what is a résumé", "what is a resume", Kind.IDENTIFIERS),
        ("x" * 40, "y" * 40, Kind.IDENTIFIERS),
        ("if a\n  b\nc", "if a\n  b\n  c", Kind.IDENTIFIERS),
        ("what does ( mean", "what does ) mean", Kind.IDENTIFIERS),
        ("Is it safe?", "Is it not safe?", Kind.NEGATIONS),
        ("with sugar", "without sugar", Kind.NEGATIONS),
        ("a non-empty list", "a list", Kind.NEGATIONS),
        ("do it", "don't do it", Kind.NEGATIONS),
        ("a loan of $500", "a loan of €500", Kind.NUMBERS),
        ("wait 30 days", "wait 30 weeks", Kind.NUMBERS),
        ("5k a month", "50k a month", Kind.NUMBERS),
        ("open on Monday", "open on Tuesday", Kind.DATES),
        ("my bill this month", "my bill last month", Kind.DATES),
        ("results of Q2", "results of Q3", Kind.DATES),
        ("open an account", "close an account", Kind.OPPOSITES),
        ("with a PIN", "with a password", Kind.OPPOSITES),
        ("convert 5 miles to km", "convert 5 km to miles", Kind.NUMBERS),
        ("move it from savings to checking", "move it from checking to savings", Kind.ROLES),
    ],
)
def test_what_an_embedder_takes_for_the_same_is_told_apart(one: str, other: str, kind: Kind) -> None:
    assert disagreement(one, other) is kind
