"""Whether an answer is good enough, by checks that are configured. Pure.

A check says what it found, in words for whoever asked: what fails is asked again or goes to the large model, with that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import py3langid
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

REFUSALS = re.compile(
    r"^\W*(i'?m|i am)( \w+)? (sorry|unable|not able)\b|^\W*sorry\b"
    r"|^\W*(unfortunately, )?(i|we) (can ?not|can'?t|won'?t|am not able to|'m not able to)\b"
    r"|^\W*as an ai\b",
    re.IGNORECASE,
)
"""How instruction-tuned models begin when they decline. Only the beginning: an answer may speak of refusing."""

GRAM_WORDS = 4
LEAST_DISTINCT = 0.5
LEAST_GRAMS = 12
"""A text whose runs of four words are for the most part ones that it had before goes round in a circle. Prose has under
a tenth of them twice. Source: distinct-n, Li et al. 2016. Shorter texts may repeat themselves for good reasons."""

LONGEST_RUN = 64
"""One character so often in a row is no text."""

LANGUAGE_CHARACTERS = 20
"""A text that is shorter may be in any language."""


@dataclass(frozen=True)
class Failed:
    """check: its name, as in the settings. reason: what it found, without the answer's text."""

    check: str
    reason: str


@dataclass(frozen=True)
class Checks:
    """A set of checks. None, or false, where one is not asked for. language: ISO 639-1.

    min_mean_logprob: of the answer's tokens; -1.5 is a model that guesses. retry: whether a failed answer is asked for
    once more before it goes on.
    """

    json_schema: Mapping[str, Any] | None = None
    regex: str | None = None
    min_characters: int = 0
    max_characters: int | None = None
    language: str | None = None
    refusal: bool = False
    repetition: bool = False
    min_mean_logprob: float | None = None
    retry: bool = False

    def verdict(self, text: str, mean_logprob: float | None) -> Failed | None:
        """None for an answer that is good enough, else the first check that it fails.

        mean_logprob: None where the engine does not tell it; then that check passes.
        """
        for check in (self._length, self._pattern, self._schema, self._refusal, self._repetition, self._language):
            if failed := check(text):
                return failed
        least = self.min_mean_logprob
        if least is not None and mean_logprob is not None and mean_logprob < least:
            return Failed("min_mean_logprob", f"{mean_logprob:.2f} a token, less than {least:g}")
        return None

    def _length(self, text: str) -> Failed | None:
        if len(text.strip()) < self.min_characters:
            return Failed("min_characters", f"{len(text.strip())} characters, fewer than {self.min_characters}")
        if self.max_characters is not None and len(text) > self.max_characters:
            return Failed("max_characters", f"{len(text)} characters, more than {self.max_characters}")
        return None

    def _pattern(self, text: str) -> Failed | None:
        if self.regex is None or re.search(self.regex, text):
            return None
        return Failed("regex", "nothing in it matches the pattern")

    def _schema(self, text: str) -> Failed | None:
        if self.json_schema is None:
            return None
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return Failed("json_schema", "it is not JSON")
        try:
            error = best_match(self._validator.iter_errors(document))
        except (ArithmeticError, RecursionError):
            # A number past every float, or lists in lists by the hundred: a model can write either.
            return Failed("json_schema", "it is too deep, or has a number too large, to be held against the schema")
        if error is None:
            return None
        # Its own message quotes the answer.
        return Failed("json_schema", f"{error.json_path} does not meet {error.validator!r}")

    def _refusal(self, text: str) -> Failed | None:
        return Failed("refusal", "it declines") if self.refusal and REFUSALS.search(text) else None

    def _repetition(self, text: str) -> Failed | None:
        if not self.repetition:
            return None
        if re.search(rf"(\S)\1{{{LONGEST_RUN - 1}}}", text):
            return Failed("repetition", f"one character {LONGEST_RUN} times in a row")
        words = text.lower().split()
        grams = [tuple(words[at : at + GRAM_WORDS]) for at in range(len(words) - GRAM_WORDS + 1)]
        if len(grams) >= LEAST_GRAMS and (distinct := len(set(grams)) / len(grams)) < LEAST_DISTINCT:
            return Failed("repetition", f"{1 - distinct:.0%} of its runs of {GRAM_WORDS} words were there before")
        return None

    def _language(self, text: str) -> Failed | None:
        if self.language is None or len(text.strip()) < LANGUAGE_CHARACTERS:
            return None
        found = py3langid.classify(text)[0]
        return None if found == self.language else Failed("language", f"{found}, not {self.language}")

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.json_schema or {})


def _no_constant(name: str) -> Callable[[], None]:
    """NaN and Infinity, which Python would take."""
    raise ValueError(name)
