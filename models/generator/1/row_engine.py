"""Runs rows on OpenVINO GenAI's continuous batching, one thread over all of them. No Triton here.

```
submit ──▶ queue ──▶ admit ─▶ step ─▶ read ──▶ Listener.piece, …, Listener.done
                       ▲                 │
                       └── drop a row that nobody waits for
```

There are two batches of rows, each with a pipeline of its own: the urgent ones, and the others. While urgent rows run
the others stand still, but for a sixth of the time: an urgent row is nearly as fast as if there were no others.

A row that cannot run is answered and the others go on. A failure of the engine itself ends the thread through
`on_death`, which must not return to business: no row that is running can be answered rightly any more.

Source: continuous batching, Yu et al. 2022 (Orca); the pipeline's add_request and step.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino
import openvino_genai
from answer_text import AnswerText
from sampling import SEED_LIMIT, InvalidParams, Sampling

WANTED_CHECK_S = 0.1
"""Seconds between two questions whether a row is still wanted: each is a round trip to the server's process."""

BULK_SHARE = 1 / 6
"""Of the time while urgent rows run, for the others: their rows are not given up by those who wait for them, and an
urgent row takes a fifth longer at most."""


class ContextLengthExceeded(ValueError):
    """The prompt has more tokens than the model is set to take."""


class EngineFailure(RuntimeError):
    """A row could not be run, or the engine is dead."""


@dataclass(frozen=True)
class Limits:
    """max_prompt_tokens per row; max_rows that run at once; max_batched_tokens per step; cache_gb of keys, values.

    urgent_rows, urgent_cache_gb: the same for urgent rows.
    """

    max_prompt_tokens: int
    max_rows: int
    max_batched_tokens: int
    cache_gb: int
    urgent_rows: int
    urgent_cache_gb: int


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
    """Who waits for a row. All calls come from the engine's thread, and none may block for long."""

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


@dataclass
class _Row:
    prompt: Sequence[int]
    sampling: Sampling
    stream: bool
    listener: Listener
    text: AnswerText | None
    tokens: list[int] = field(default_factory=list)
    handle: Any = None
    held: str = ""
    """Text of a row that is not streamed, decoded early for its stop strings."""
    told: int = 0
    """Output tokens that were reported with pieces."""
    next_check: float = 0.0
    submitted_s: float = field(default_factory=time.monotonic)
    first_token_s: float = 0.0
    logprob: float = 0.0


@dataclass
class _Batch:
    """Rows that run together. step_s: what the last step took."""

    pipeline: Any
    rows: dict[int, _Row] = field(default_factory=dict[int, _Row])
    step_s: float = 0.0

    def step(self) -> None:
        began = time.monotonic()
        self.pipeline.step()
        self.step_s = time.monotonic() - began


class RowEngine:
    """submit may be called from any thread."""

    def __init__(self, model: Path, limits: Limits, on_death: Callable[[BaseException], None]) -> None:
        """Load the model, some 5 s. Raises EngineFailure when it cannot be read.

        on_death: called on the engine's thread with what ended it, after every row was answered.
        """
        try:
            # At the same time: each takes some 5 s, most of it on one core.
            with ThreadPoolExecutor() as pool:
                bulk = pool.submit(_pipeline, model, limits.max_rows, limits.max_batched_tokens, limits.cache_gb)
                own = (limits.urgent_rows, limits.max_batched_tokens, limits.urgent_cache_gb)
                urgent = pool.submit(_pipeline, model, *own)
                self._bulk, self._urgent = _Batch(bulk.result()), _Batch(urgent.result())
        except Exception as failure:
            raise EngineFailure(f"cannot load {model}: {failure}") from failure
        self._bulk_owed_s = 0.0
        self._tokenizer = self._bulk.pipeline.get_tokenizer()
        self._base = self._bulk.pipeline.get_config()
        self._limits = limits
        self._on_death = on_death
        self._queue: queue.SimpleQueue[tuple[_Batch, _Row] | None] = queue.SimpleQueue()
        self._next_id = 0
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()

    def submit(self, prompt: str, sampling: Sampling, stream: bool, listener: Listener, *, urgent: bool) -> None:
        """Queue a row; its listener hears from it later. urgent: before all rows that are not.

        Raises ContextLengthExceeded, or InvalidParams for a prompt of no tokens.
        """
        # The prompt is templated already: its special tokens are in the text.
        tokens = self._tokenizer.encode(prompt, add_special_tokens=False).input_ids.data[0].tolist()
        if not tokens:
            raise InvalidParams("text_input is empty")
        if len(tokens) > self._limits.max_prompt_tokens:
            raise ContextLengthExceeded(
                f"the prompt has {len(tokens)} tokens, the model takes {self._limits.max_prompt_tokens}"
            )
        # Text is decoded as it comes only where somebody looks at it before the end.
        text = AnswerText(self._decode, sampling.stop) if stream or sampling.stop else None
        batch = self._urgent if urgent else self._bulk
        self._queue.put((batch, _Row(tokens, sampling, stream, listener, text)))

    def close(self) -> None:
        """Finish the rows that run, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._admit():
                batch = self._next()
                batch.step()
                self._read(batch)
                self._drop_unwanted(batch)
        except BaseException as failure:
            self._fail_all(EngineFailure(f"the engine died: {failure}"))
            self._on_death(failure)

    def _next(self) -> _Batch:
        """The rows whose step it is."""
        bulk, urgent = self._bulk, self._urgent
        if not urgent.rows or not bulk.rows:
            self._bulk_owed_s = 0.0
            return urgent if urgent.rows else bulk
        if self._bulk_owed_s >= bulk.step_s > 0:
            self._bulk_owed_s -= bulk.step_s
            return bulk
        # What the step to come takes is told by the last one.
        self._bulk_owed_s += urgent.step_s * BULK_SHARE / (1 - BULK_SHARE)
        return urgent

    @property
    def _is_empty(self) -> bool:
        return not self._bulk.rows and not self._urgent.rows

    def _admit(self) -> bool:
        """Take in what was submitted; wait while there is nothing to run. False when closed and done."""
        while True:
            try:
                queued = self._queue.get(block=self._is_empty)
            except queue.Empty:
                return True
            if queued is None:
                if self._is_empty:
                    return False
                # Closed with rows running: the mark goes back, to be found when they are done.
                self._queue.put(None)
                return True
            self._start(*queued)

    def _start(self, batch: _Batch, row: _Row) -> None:
        self._next_id += 1
        ids = openvino.Tensor(np.array([row.prompt], dtype=np.int64))
        try:
            row.handle = batch.pipeline.add_request(self._next_id, ids, self._config(row.sampling))
        except RuntimeError as failure:
            # The pipeline checks a row before it takes it in: the others are not touched.
            row.listener.failed(EngineFailure(str(failure)))
            return
        row.next_check = time.monotonic() + WANTED_CHECK_S
        batch.rows[self._next_id] = row

    def _config(self, sampling: Sampling) -> openvino_genai.GenerationConfig:
        config = openvino_genai.GenerationConfig()
        config.eos_token_id = self._base.eos_token_id
        config.stop_token_ids = self._base.stop_token_ids
        config.apply_chat_template = False
        config.max_new_tokens = sampling.max_tokens
        config.min_new_tokens = sampling.min_tokens
        config.ignore_eos = sampling.ignore_eos
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.repetition_penalty = sampling.repetition_penalty
        config.logprobs = int(sampling.logprobs)
        config.do_sample = not sampling.greedy
        if config.do_sample:
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            if sampling.top_k:
                config.top_k = sampling.top_k
            # The engine's own default is seed 0 for every row, which gives everybody the same sample.
            config.rng_seed = random.randrange(SEED_LIMIT) if sampling.seed is None else sampling.seed
        return config

    def _read(self, batch: _Batch) -> None:
        for number, row in list(batch.rows.items()):
            reason = "NONE"
            fresh: list[int] = []
            while row.handle.can_read():
                output = row.handle.read()[0]
                fresh += output.generated_ids
                row.logprob += sum(output.generated_log_probs)
                reason = output.finish_reason.name
            if fresh and not row.first_token_s:
                row.first_token_s = time.monotonic() - row.submitted_s
            if self._advance(row, fresh, reason):
                del batch.rows[number]
            elif row.handle.get_status() == openvino_genai.GenerationStatus.IGNORED:
                del batch.rows[number]
                row.listener.failed(EngineFailure("the row does not fit into the engine's cache"))

    def _advance(self, row: _Row, fresh: Sequence[int], reason: str) -> bool:
        """Take fresh tokens into the row and tell its listener. True when the row is done."""
        piece = ""
        for token in fresh:
            row.tokens.append(token)
            piece += row.text.push(token) if row.text else ""
            if row.text and row.text.stopped:
                row.handle.cancel()
                reason = "STOP"
                break
        if reason == "NONE":
            if row.stream and piece:
                row.listener.piece(piece, len(row.prompt), len(row.tokens) - row.told)
                row.told = len(row.tokens)
            elif row.text and piece:
                row.held += piece
            return False
        rest = piece + row.text.finish() if row.text else self._decode(row.tokens)
        row.listener.done(row.held + rest, self._result(row, reason.lower()), len(row.tokens) - row.told)
        return True

    def _drop_unwanted(self, batch: _Batch) -> None:
        now = time.monotonic()
        for number, row in list(batch.rows.items()):
            if now < row.next_check:
                continue
            row.next_check = now + WANTED_CHECK_S
            if not row.listener.wanted():
                row.handle.cancel()
                del batch.rows[number]
                row.listener.dropped(self._result(row, "cancelled"))

    def _result(self, row: _Row, reason: str) -> Done:
        return Done(reason, len(row.prompt), len(row.tokens), row.first_token_s, row.logprob)

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _fail_all(self, failure: EngineFailure) -> None:
        rows = [*self._bulk.rows.values(), *self._urgent.rows.values()]
        self._bulk.rows.clear()
        self._urgent.rows.clear()
        while not self._queue.empty():
            if queued := self._queue.get():
                rows.append(queued[1])
        for row in rows:
            row.listener.failed(failure)


def _pipeline(model: Path, rows: int, batched_tokens: int, cache_gb: int) -> Any:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = cache_gb
    scheduler.max_num_seqs = rows
    scheduler.max_num_batched_tokens = batched_tokens
    scheduler.dynamic_split_fuse = True
    # Requests of one tenant share their system prompt: its keys and values are computed once.
    scheduler.enable_prefix_caching = True
    return openvino_genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", {})
