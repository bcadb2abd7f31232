"""An answer without a model: the prompt itself, word by word a token. Pure but for the file of calls."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

CALLS_VARIABLE = "MILLPOND_ECHO_CALLS"
"""Names a file that gets each call's prompt before its answer: it counts calls where processes are killed."""

GARBLED_VARIABLE = "MILLPOND_ECHO_GARBLED"
"""Of a process's answers, each of this number's multiples makes no sense: what a model does that is broken."""

POISON_VARIABLE = "MILLPOND_ECHO_POISON"
"""A prompt with this text in it ends the model's process, and with it all calls that it had in hand."""

GARBLED_REASON = "garbled"
"""No reason for which an answer may end."""

LONGEST_LINE = 200
"""Characters of a prompt that are written there: what lies under 4,096 bytes is appended whole or not at all."""


@dataclass(frozen=True)
class Echo:
    """finish_reason: "length" where the answer was cut at the number of tokens that was asked for."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


def echo(prompt: str, max_tokens: int) -> Echo:
    words = prompt.split()
    if len(words) <= max_tokens:
        return Echo(prompt, "stop", len(words), len(words))
    return Echo(" ".join(words[:max_tokens]), "length", len(words), max_tokens)


class Calls:
    """The calls of one process, and the file of them, where one is named."""

    def __init__(self) -> None:
        self._garbled_every = int(os.environ.get(GARBLED_VARIABLE) or 0)
        self._poison = os.environ.get(POISON_VARIABLE)
        self._count = 0
        path = os.environ.get(CALLS_VARIABLE)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    def answer(self, prompt: str, max_tokens: int) -> Echo:
        """The answer of a call, which is noted before."""
        self._note(prompt)
        if self._poison and self._poison in prompt:
            os._exit(1)
        self._count += 1
        answer = echo(prompt, max_tokens)
        if self._garbled_every and self._count % self._garbled_every == 0:
            return replace(answer, finish_reason=GARBLED_REASON)
        return answer

    def _note(self, prompt: str) -> None:
        if self._file is not None:
            line = " ".join(prompt.split())[:LONGEST_LINE]
            os.write(self._file, f"{line}\n".encode())
