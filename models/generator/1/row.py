"""One row of the generator: its tokens become text as they come, and its listener is told. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from answer_text import AnswerText, Decode
from generator_engine import Done, Listener
from sampling import Sampling


@dataclass
class Row:
    prompt: Sequence[int]
    sampling: Sampling
    stream: bool
    listener: Listener
    decode: Decode
    text: AnswerText | None = field(init=False)
    """Text is decoded as it comes only where somebody looks at it before the end."""
    tokens: list[int] = field(default_factory=list[int])
    held: str = ""
    """Text of a row that is not streamed, decoded early for its stop strings."""
    told: int = 0
    """Output tokens that were reported with pieces."""
    submitted_s: float = field(default_factory=time.monotonic)
    first_token_s: float = 0.0
    logprob: float = 0.0

    def __post_init__(self) -> None:
        self.text = AnswerText(self.decode, self.sampling.stop) if self.stream or self.sampling.stop else None

    def take(self, fresh: Sequence[int], reason: str | None) -> Literal["", "ended", "stopped"]:
        """Take these tokens in and tell the listener. reason: of the row's end, "stop" or "length"; None: it goes on.

        "stopped": a stop string came, and the engine is to end the row.
        """
        if fresh and not self.first_token_s:
            self.first_token_s = time.monotonic() - self.submitted_s
        piece, stopped = "", False
        for token in fresh:
            self.tokens.append(token)
            piece += self.text.push(token) if self.text else ""
            if self.text and self.text.stopped:
                stopped, reason = True, "stop"
                break
        if reason is None:
            if self.stream and piece:
                self.listener.piece(piece, len(self.prompt), len(self.tokens) - self.told)
                self.told = len(self.tokens)
            elif self.text and piece:
                self.held += piece
            return ""
        rest = piece + self.text.finish() if self.text else self.decode(self.tokens)
        self.listener.done(self.held + rest, self.result(reason), len(self.tokens) - self.told)
        return "stopped" if stopped else "ended"

    def result(self, reason: str) -> Done:
        return Done(reason, len(self.prompt), len(self.tokens), self.first_token_s, self.logprob)
