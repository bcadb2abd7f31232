"""Turns a row's tokens into text as they come. Pure: the decoder is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids → text, with U+FFFD for bytes that are no whole character (yet)."""


class AnswerText:
    """The text of one answer, piece by piece.

    A piece is held back while it may be half a character or the beginning of a stop string, so that pieces once
    given are never taken back. A stop string and what follows it are left out.

    Source: decoding a window that begins one piece back, so that a token whose text depends on its left neighbour
    comes out right (Hugging Face text-generation-inference and vLLM decode the same way).
    """

    def __init__(self, decode: Decode, stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = stops
        self._longest_stop = max(map(len, stops), default=0)
        self._ids: list[int] = []
        self._window = 0
        """Index of the first token of the piece before the one to come."""
        self._read = 0
        """Index of the first token whose text was not yet taken."""
        self._seen = ""
        """The text of the tokens from window to read."""
        self._held = ""
        """Text taken but not given, since it may begin a stop string."""
        self.stopped = False
        """Whether a stop string came; tokens after it are not looked at."""

    def push(self, token: int) -> str:
        """The text that may be given out now that token came; often a piece, sometimes none."""
        self._ids.append(token)
        return self._take(last=False)

    def finish(self) -> str:
        """The text that was held back and is left when no more tokens come."""
        return "" if self.stopped else self._take(last=True)

    def _take(self, last: bool) -> str:
        text = self._decode(self._ids[self._window :])
        if not last and (text.endswith("\ufffd") or len(text) <= len(self._seen)):
            return ""
        fresh = text[len(self._seen) :]
        self._window, self._read = self._read, len(self._ids)
        self._seen = self._decode(self._ids[self._window :]) if not last else ""
        return self._release(fresh, last)

    def _release(self, fresh: str, last: bool) -> str:
        text = self._held + fresh
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = 0 if last else self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _undecided(self, text: str) -> int:
        """Characters at the end of text that may be the beginning of a stop string."""
        for length in range(min(self._longest_stop - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
