"""The engine driven directly: one row at a time, in windows that end with their last row, and all at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from millpond.v1 import request_pb2
from millpond_batcher.chat_prompt import ChatPrompt
from millpond_batcher.engine import Completion, Engine
from millpond_core.settings import ModelSettings

PATIENCE_S = 600.0


@dataclass(frozen=True)
class Ask:
    """tokens: of its answer, exactly. system: what stands before the question."""

    text: str
    tokens: int
    system: str = ""


@dataclass(frozen=True)
class Ran:
    """latencies_s: of each row, from when its turn came. padding: share of tokens that a padded window would waste."""

    completions: Sequence[Completion]
    latencies_s: Sequence[float]
    seconds: float
    padding: float

    @property
    def tokens_per_s(self) -> float:
        return sum(each.output_tokens for each in self.completions) / self.seconds

    @property
    def prompt_tokens(self) -> int:
        return sum(each.input_tokens for each in self.completions)


def run(address: str, model: ModelSettings, asks: Sequence[Ask], window: int) -> Ran:
    """In windows of so many rows, one after the other; of all of them: continuously, as rows end."""
    return asyncio.run(_run(address, model, asks, window))


async def _run(address: str, model: ModelSettings, asks: Sequence[Ask], window: int) -> Ran:
    engine = Engine(address, model.triton_model)
    prompt = ChatPrompt(model.chat_template)

    async def complete(ask: Ask) -> tuple[Completion, float]:
        began = time.monotonic()
        asked = [("system", ask.system)] if ask.system else []
        asked.append(("user", ask.text))
        message = request_pb2.Request(messages=[request_pb2.Message(role=role, content=text) for role, text in asked])
        params = json.dumps({"temperature": 0, "max_tokens": ask.tokens, "min_tokens": ask.tokens})
        completion = await engine.complete(prompt.render(message), params, timeout_s=PATIENCE_S)
        return completion, time.monotonic() - began

    began = time.monotonic()
    ran: list[tuple[Completion, float]] = []
    places = used = 0
    try:
        for first in range(0, len(asks), window):
            part = await asyncio.gather(*(complete(ask) for ask in asks[first : first + window]))
            lengths = [each.input_tokens + each.output_tokens for each, _ in part]
            places += max(lengths) * len(lengths)
            used += sum(lengths)
            ran += part
    finally:
        await engine.close()
    seconds = time.monotonic() - began
    return Ran([each for each, _ in ran], [each for _, each in ran], seconds, 1 - used / places)
