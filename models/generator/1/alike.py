"""Which row reads a prompt's beginning for the others that begin alike. Pure.

The engine keeps what it has read of a prompt, but rows that begin at the same time each read all of theirs: so one goes
first, and the others wait until it has read its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from operator import eq
from typing import Generic, TypeVar

SHARED_TOKENS = 64
"""Prompts that share fewer are not worth waiting for."""

SHARED_PART = 0.5
"""Of a prompt: one that shares less has more to read by itself than it saves."""


R = TypeVar("R")


class Reading(Generic[R]):
    """The rows whose prompts are being read, by their numbers, and the rows R that wait for them."""

    def __init__(self) -> None:
        self._prompts: dict[int, Sequence[int]] = {}
        self._first: dict[tuple[int, ...], int] = {}
        """By the beginning of its prompt, the row that reads it."""
        self._waiting: dict[int, list[R]] = {}
        """By the number of the row that reads a prompt like theirs."""

    @property
    def waiting(self) -> Iterator[R]:
        return chain.from_iterable(self._waiting.values())

    def waits(self, prompt: Sequence[int], row: R) -> bool:
        """Whether another row reads enough of this prompt; then it is kept until that one has, or is gone."""
        leader = self._leader(prompt)
        if leader is not None:
            self._waiting.setdefault(leader, []).append(row)
        return leader is not None

    def begin(self, number: int, prompt: Sequence[int]) -> None:
        if len(prompt) >= SHARED_TOKENS:
            self._prompts[number] = prompt
            self._first.setdefault(_beginning(prompt), number)

    def end(self, number: int) -> Sequence[R]:
        """It has read its prompt, or is gone. Returns those that waited for it.

        Where it has read, all of them begin now: to wait again, one for the other, would be to go one by one.
        """
        prompt = self._prompts.pop(number, None)
        if prompt is not None and self._first.get(_beginning(prompt)) == number:
            del self._first[_beginning(prompt)]
        return self._waiting.pop(number, ())

    def _leader(self, prompt: Sequence[int]) -> int | None:
        number = self._first.get(_beginning(prompt))
        if number is None:
            return None
        alike = sum(takewhile(bool, map(eq, prompt, self._prompts[number])))
        return number if alike >= SHARED_PART * len(prompt) else None


def _beginning(prompt: Sequence[int]) -> tuple[int, ...]:
    return tuple(prompt[:SHARED_TOKENS])
