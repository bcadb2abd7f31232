"""What two texts must have in common, however near their vectors are. Pure.

A sentence embedder sees what a text is about, and hardly sees "not", 5 for 50, or who is asked to be turned into whom.
It is also blind to some characters: MiniLM's tokenizer lowers case, drops accents, and reads a very long word, an emoji
or a letter of most scripts as one and the same unknown token. So everything but plain English words is compared as it
is written, in its order. A wrong answer is worse than a miss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

NEGATIONS = frozenset(
    "no not never none nor neither nothing nobody nowhere non cannot without except unless hardly barely".split()  # noqa: SIM905
)

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "  # noqa: SIM905
        "seventeen eighteen nineteen twenty".split()
    )
}

LONG_WORD = 32
"""Letters from which a word counts as an identifier: no English word, and the embedder gives up at 100."""

_CHUNK = re.compile(r"\n[ \t]+|\S+")
"""Indentation has a meaning in code and in lists."""

_OPENING = "([{\"'“‘«¿¡"
_CLOSING = ".,;:!?)]}\"'”’»…"
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_NUMBER = re.compile(r"[-+]?\d[\d.,]*%?")
_SENTENCE_END = (".", "!", "?", ":")


class Kind(StrEnum):
    NUMBERS = "numbers"
    IDENTIFIERS = "identifiers"
    NEGATIONS = "negations"


def disagreement(one: str, other: str) -> Kind | None:
    """What the two texts do not share; None where their answers may be the same.

    Symmetric, and None for a text and itself. Numbers, identifiers (names, codes, symbols, words that are not plain
    English letters) and negations must be equal, each in their order.
    """
    ours, theirs = _marks(one), _marks(other)
    return next((kind for kind in Kind if ours[kind] != theirs[kind]), None)


def _marks(text: str) -> dict[Kind, list[str]]:
    marks: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    begins = True
    for match in _CHUNK.finditer(text.replace("’", "'")):
        chunk = match[0]
        bare = chunk.lstrip(_OPENING).rstrip(_CLOSING) or chunk
        for kind, mark in _marks_of(bare, begins=begins):
            marks[kind].append(mark)
        begins = chunk.endswith(_SENTENCE_END)
    return marks


def _marks_of(bare: str, *, begins: bool) -> Iterator[tuple[Kind, str]]:
    """begins: whether the word begins a sentence, where a capital says nothing."""
    if _NUMBER.fullmatch(bare):
        yield Kind.NUMBERS, bare
    elif not _WORD.fullmatch(bare) or len(bare) >= LONG_WORD or _is_name(bare, begins=begins):
        yield Kind.IDENTIFIERS, bare
    else:
        for part in bare.lower().split("-"):
            if part in NUMBER_WORDS:
                yield Kind.NUMBERS, NUMBER_WORDS[part]
            elif part in NEGATIONS or part.endswith("n't"):
                # "do not" and "don't" are the same, and so are "cannot" and "can't".
                yield Kind.NEGATIONS, "not" if part == "cannot" or part.endswith("n't") else part


def _is_name(word: str, *, begins: bool) -> bool:
    """ "Paris", "HTTP", "camelCase"; not "I", nor what begins a sentence."""
    if word == "I" or word.startswith("I'"):
        return False
    return any(letter.isupper() for letter in (word[1:] if begins else word))
