"""Which row reads a prompt's beginning for the others that begin alike. Pure.

The engine keeps what it has read of a prompt, but rows that begin at the same time each read all of theirs: so one goes
first, and the others wait until it has read its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from operator import eq

SHARED_TOKENS = 64
"""Prompts that share fewer are not worth waiting for."""

SHARED_PART = 0.5
"""Of a prompt: one that shares less has more to read by itself than it saves."""


class Reading:
    """The rows whose prompts are being read, by their numbers."""

    def __init__(self) -> None:
        self._prompts: dict[int, Sequence[int]] = {}
        self._first: dict[tuple[int, ...], int] = {}
        """By the beginning of its prompt, the row that reads it."""

    def begin(self, number: int, prompt: Sequence[int]) -> None:
        if len(prompt) >= SHARED_TOKENS:
            self._prompts[number] = prompt
            self._first.setdefault(_beginning(prompt), number)

    def end(self, number: int) -> None:
        """It has read its prompt, or is gone."""
        prompt = self._prompts.pop(number, None)
        if prompt is not None and self._first.get(_beginning(prompt)) == number:
            del self._first[_beginning(prompt)]

    def leader(self, prompt: Sequence[int]) -> int | None:
        """The row that reads enough of this prompt for it to wait."""
        number = self._first.get(_beginning(prompt))
        if number is None:
            return None
        alike = sum(takewhile(bool, map(eq, prompt, self._prompts[number])))
        return number if alike >= SHARED_PART * len(prompt) else None


def _beginning(prompt: Sequence[int]) -> tuple[int, ...]:
    return tuple(prompt[:SHARED_TOKENS])
