"""What every engine of the generator is: it takes rows, and tells each one's listener what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sampling import InvalidParams, Sampling


class ContextLengthExceeded(ValueError):
    """The prompt has more tokens than the model is set to take."""


class EngineFailure(RuntimeError):
    """A row could not be run, or the engine is dead."""


@dataclass(frozen=True)
class Limits:
    """max_prompt_tokens per row; max_rows that run at once; max_batched_tokens per step; cache_gb of keys, values."""

    max_prompt_tokens: int
    max_rows: int
    max_batched_tokens: int
    cache_gb: int


@dataclass(frozen=True)
class Done:
    """finish_reason is "stop" or "length"; output_tokens counts every token made, the end token included.

    first_token_s: from its submission to its first token. logprob: the sum over its tokens, where it was asked for.
    """

    finish_reason: str
    input_tokens: int
    output_tokens: int
    first_token_s: float = 0.0
    logprob: float = 0.0


class Listener(Protocol):
    """Who waits for a row. All calls come from one thread of the engine, and none may block for long."""

    def piece(self, text: str, input_tokens: int, output_tokens: int) -> None:
        """More text of a streamed row. output_tokens: those since the last piece."""
        ...

    def done(self, text: str, result: Done, output_tokens: int) -> None:
        """The end. text: the rest of a streamed row (output_tokens: those since the last piece), else all of it."""
        ...

    def failed(self, failure: Exception) -> None: ...

    def wanted(self) -> bool:
        """False when nobody waits any more; the row is dropped and told nothing further."""
        ...

    def dropped(self, result: Done) -> None:
        """The row was given up, with what it had cost until then."""
        ...


class Engine(Protocol):
    """submit may be called from any thread."""

    def submit(self, prompt: str, sampling: Sampling, stream: bool, listener: Listener) -> None:
        """Queue a row; its listener hears from it later.

        Raises ContextLengthExceeded, or InvalidParams for a prompt of no tokens or for what the engine does not do.
        """
        ...

    def close(self) -> None:
        """Finish the rows that run, then end."""
        ...


def open_engine(name: str, model: Path, limits: Limits, on_death: Callable[[BaseException], None]) -> Engine:
    """Load the model. Raises EngineFailure where it, or what the engine needs, cannot be had.

    on_death: called on a thread of the engine with what ended it, after every row was answered.
    """
    try:
        if name == "openvino":
            from row_engine import RowEngine

            return RowEngine(model, limits, on_death)
        if name == "torch":
            from torch_engine import TorchEngine

            return TorchEngine(model, limits, on_death)
    except ImportError as failure:
        raise EngineFailure(f"the engine {name} needs what is not installed: {failure}") from failure
    raise EngineFailure(f"engine {name!r}: must be openvino or torch")


def check_prompt(tokens: Sequence[int], limits: Limits) -> None:
    """Raises ContextLengthExceeded or InvalidParams."""
    if not tokens:
        raise InvalidParams("text_input is empty")
    if len(tokens) > limits.max_prompt_tokens:
        raise ContextLengthExceeded(f"the prompt has {len(tokens)} tokens, the model takes {limits.max_prompt_tokens}")
