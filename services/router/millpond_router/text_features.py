"""What can be counted in a text without a model: length, digits, code, mathematics, question form, choices. Pure.

Each feature is a number of about 0 to 10, named in `NAMES`, so that a decision can say what it saw.
"""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

LOOKED_AT_CHARACTERS = 3_000
"""Of a text: 0.1 ms. Its length is known without looking."""

MOST_OF_A_KIND = 10

LARGEST_NUMBER = 1e9

NAMES = (
    *("characters", "words", "word_length", "letters", "digits", "capitals", "punctuation", "other_scripts"),
    *("numbers", "number_words", "sentences", "lines", "different_words"),
    *("question_mark", "question_word", "how_many", "blank_to_fill", "negation", "statements"),
    *("formula_signs", "latex", "money", "percent", "code", "code_words", "write_code"),
    *("choices", "choice_length", "longest_choice", "shortest_choice", "choice_spread", "numeric_choices"),
    *("all_of_above", "asked_format", "asked_short", "asked_list", "quotes", "brackets"),
    *("comparisons", "each", "fractions", "slashes", "times", "totals", "sequence", "names", "decimals", "largest"),
)
"""characters, words, numbers to lines, choice lengths, names, largest: natural logarithms of 1 + the number. letters to
other_scripts: shares, times a number that brings them near 1. The others are 0 or 1, or small numbers."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# No pattern may start anew inside what it has read: a text of one long word would take seconds.
_SENTENCE_END = re.compile(r"[.!?。！？](?:\s|$)")
_CHOICE = re.compile(r"^[ \t]{0,8}\(?[A-J][.):][ \t]{1,8}(.*)$", re.MULTILINE)
_NUMERIC = re.compile(r"[-–$€£(]*\s*\d[\d.,/^ *×()%+-]*\D{0,12}$")
_FORMULA = re.compile(r"[=+*^/<>±×÷√∑∫≤≥≠∞]|\b(?:sqrt|log|sin|cos|tan|mod|lim)\b")
_LATEX = re.compile(r"\\[a-zA-Z]+|\$[^$\s][^$]{0,200}\$")
_CODE = re.compile(
    r"```|[{};]\s*$|\bdef \w{1,80}\(|\breturn\b.*[;:]?$|=>|\b\w{1,40}\(\w{0,40}\)|#include|</?\w{1,40}>|\bimport \w",
    re.MULTILINE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER_WORDS = _words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million "
    "half twice double triple third quarter dozen"
)
_QUESTION_WORDS = _words("what which who whom whose when where why how")
_NEGATION = _words("not except least never none false incorrect untrue cannot without")
_CODE_WORDS = _words(
    "python javascript java sql html css regex json api bash function class method array loop compile exception "
    "code script program algorithm"
)
_COMPARISONS = _words("more less fewer than as")
_EACH = _words("each every per")
_FRACTIONS = _words("half third quarter twice double triple times")
_TIMES = _words("day days week weeks hour hours month months year years minute minutes")
_TOTALS = _words("total altogether left remain remains remaining")
_SEQUENCE = _words("first second then next after before")
_FORMATS = _words("json yaml csv table markdown xml html format template schema")
_SHORT = _words("briefly brief short concise sentence word words summarise summarize summary tldr")


_KIND_OF = {word: kind for kind in (_COMPARISONS, _EACH, _FRACTIONS, _TIMES, _TOTALS, _SEQUENCE) for word in kind}
"""Each word is of one kind."""


def _value(number: str) -> float:
    """Of digits with points or commas between them. Infinite where there are very many."""
    return float(number.replace(",", "").replace(".", "", max(number.count(".") - 1, 0)))


def features_of_text(text: str) -> NDArray[np.float32]:
    """float32 [len(NAMES)], in the order of `NAMES`. Any text has them, the empty one too."""
    start = text[:LOOKED_AT_CHARACTERS]
    characters = len(start) + 1
    found = _WORD.findall(start)
    # Each step is one call for all words: a loop over them would take most of a decision's time.
    words = " ".join(found).lower().split()
    kinds = set(words)
    letters = sum(map(len, found))
    numbers = _NUMBER.findall(start)
    digits = sum(map(len, numbers))
    choices = [choice.strip() for choice in _CHOICE.findall(start)]
    sizes = [len(choice) for choice in choices] or [0]
    mean_size = sum(sizes) / len(sizes)
    lower = start.lower()
    capitals = sum(map(str.isupper, [word[0] for word in found]))
    often = Counter(map(_KIND_OF.get, words))
    # str.isascii looks at a flag; only other texts are counted through.
    others = 0 if start.isascii() else sum(character > "\u02af" for character in start)
    values = (
        math.log1p(len(text)),
        math.log1p(len(words)),
        letters / (len(words) + 1),
        letters / characters,
        digits / characters * 5,
        capitals / (len(words) + 1) * 3,
        (characters - letters - digits - start.count(" ")) / characters * 3,
        others / characters,
        math.log1p(len(numbers)),
        math.log1p(sum(map(_NUMBER_WORDS.__contains__, words))),
        math.log1p(len(_SENTENCE_END.findall(start))),
        math.log1p(start.count("\n")),
        len(kinds) / (len(words) + 1),
        "?" in start,
        bool(kinds & _QUESTION_WORDS),
        "how many" in lower or "how much" in lower,
        "__" in start,
        bool(kinds & _NEGATION),
        "statement 1" in lower or "statement i" in lower,
        min(len(_FORMULA.findall(start)) / characters * 50, 5),
        min(len(_LATEX.findall(start)), 5),
        "$" in start or "€" in start or "£" in start,
        "%" in start or "percent" in lower,
        min(len(_CODE.findall(start)), 5),
        min(len(kinds & _CODE_WORDS), 3),
        bool(kinds & {"write", "implement", "fix", "debug", "refactor"} and kinds & _CODE_WORDS),
        min(len(choices), 5),
        math.log1p(mean_size),
        math.log1p(max(sizes)),
        math.log1p(min(sizes)),
        (max(sizes) - min(sizes)) / (mean_size + 1),
        sum(bool(_NUMERIC.fullmatch(choice[:60])) for choice in choices) / len(sizes),
        "of the above" in lower or "both a" in lower or "neither" in kinds,
        bool(kinds & _FORMATS),
        bool(kinds & _SHORT),
        "list" in kinds or "bullet" in lower,
        min(start.count('"') + start.count("“"), 6) / 2,
        min(start.count("(") + start.count("["), 6) / 2,
        *(min(often[kind], MOST_OF_A_KIND) for kind in (_COMPARISONS, _EACH, _FRACTIONS)),
        min(start.count("/"), MOST_OF_A_KIND),
        *(min(often[kind], MOST_OF_A_KIND) for kind in (_TIMES, _TOTALS, _SEQUENCE)),
        math.log1p(capitals),
        min(sum("." in number for number in numbers), MOST_OF_A_KIND),
        math.log1p(min(max(map(_value, numbers), default=0.0), LARGEST_NUMBER)),
    )
    return np.array(values, np.float32)
