"""An answer's text comes in pieces that are never taken back, and stops where a stop string begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "generator" / "1"))

from answer_text import AnswerText


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes: characters of several bytes come in parts."""
    return bytes(tokens).decode("utf-8", errors="replace")


def pieces(text: str, stops: Sequence[str] = ()) -> tuple[list[str], bool]:
    """What is given out for text, token by token, and whether it was stopped."""
    answer = AnswerText(decode_bytes, stops)
    given: list[str] = []
    for token in text.encode():
        given.append(answer.push(token))
        if answer.stopped:
            break
    return [*given, answer.finish()], answer.stopped


@pytest.mark.parametrize("text", ["", "plain", "naïve café", "🦆🪷 and 水車", "tail 🦆"])
def test_pieces_make_up_the_text(text: str) -> None:
    given, stopped = pieces(text)
    assert "".join(given) == text
    assert not stopped


def test_a_character_comes_whole() -> None:
    given, _ = pieces("a🦆b")
    assert [piece for piece in given if piece] == ["a", "🦆", "b"]


def test_half_a_character_at_the_end_is_not_lost() -> None:
    answer = AnswerText(decode_bytes, ())
    first = answer.push("🦆".encode()[0])
    assert (first, answer.finish()) == ("", "\ufffd")


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one END two", ["END"], "one "),
        ("one EN two", ["END"], "one EN two"),
        ("one EN", ["END"], "one EN"),
        ("EEND", ["END"], "E"),
        ("ababac", ["abac"], "ab"),
        ("x\n\ny", ["\n\n", "y"], "x"),
        ("drei 🦆 vier", ["🦆"], "drei "),
        ("END", ["END"], ""),
    ],
)
def test_a_stop_string_ends_the_text(text: str, stops: Sequence[str], expected: str) -> None:
    given, stopped = pieces(text, stops)
    assert "".join(given) == expected
    assert stopped == any(stop in text for stop in stops)


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    given, _ = pieces("a E", ["END"])
    assert given == ["a", " ", "", "E"]
