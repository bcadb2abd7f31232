"""Runs rows on OpenVINO GenAI's continuous batching, one thread over all of them. No Triton here.

```
submit ──▶ queue ──▶ admit ─▶ step ─▶ read ──▶ Listener.piece, …, Listener.done
                       ▲                 │
                       └── drop a row that nobody waits for; begin those that waited for a prompt like theirs
```

There are two batches of rows, each with a pipeline of its own: the urgent ones, and the others. While urgent rows run
the others stand still, but for a sixth of the time: an urgent row is nearly as fast as if there were no others.

A row that cannot run is answered and the others go on. A failure of the engine itself ends the thread through
`on_death`, which must not return to business: no row that is running can be answered rightly any more.

Source: continuous batching, Yu et al. 2022 (Orca); the pipeline's add_request and step.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from alike import Reading
from generator_engine import EngineFailure, Limits, Listener, check_prompt
from row import Row
from sampling import SEED_LIMIT, Sampling

WANTED_CHECK_S = 0.1
"""Seconds between two questions whether a row is still wanted: each is a round trip to the server's process."""

BULK_SHARE = 1 / 6
"""Of the time while urgent rows run, for the others: their rows are not given up by those who wait for them, and an
urgent row takes a fifth longer at most."""


@dataclass
class _Running:
    """A row, and the engine's handle of it. next_check: when to ask whether it is still wanted."""

    row: Row
    handle: Any
    next_check: float


@dataclass
class _Batch:
    """Rows that run together. step_s: what the last step took."""

    pipeline: Any
    running: dict[int, _Running] = field(default_factory=dict[int, _Running])
    step_s: float = 0.0
    reading: Reading[Row] = field(default_factory=Reading[Row])

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
        self._queue: queue.SimpleQueue[tuple[_Batch, Row] | None] = queue.SimpleQueue()
        self._next_id = 0
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()

    def submit(self, prompt: str, sampling: Sampling, stream: bool, listener: Listener, *, urgent: bool) -> None:
        """Queue a row; its listener hears from it later. urgent: before all rows that are not.

        Raises ContextLengthExceeded, or InvalidParams for a prompt of no tokens.
        """
        # The prompt is templated already: its special tokens are in the text.
        tokens = self._tokenizer.encode(prompt, add_special_tokens=False).input_ids.data[0].tolist()
        check_prompt(tokens, self._limits)
        batch = self._urgent if urgent else self._bulk
        self._queue.put((batch, Row(tokens, sampling, stream, listener, self._decode)))

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
        if not urgent.running or not bulk.running:
            self._bulk_owed_s = 0.0
            return urgent if urgent.running else bulk
        if self._bulk_owed_s >= bulk.step_s > 0:
            self._bulk_owed_s -= bulk.step_s
            return bulk
        # What the step to come takes is told by the last one.
        self._bulk_owed_s += urgent.step_s * BULK_SHARE / (1 - BULK_SHARE)
        return urgent

    @property
    def _is_empty(self) -> bool:
        return not self._bulk.running and not self._urgent.running

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

    def _start(self, batch: _Batch, row: Row) -> None:
        if not batch.reading.waits(row.prompt, row):
            self._begin(batch, row)

    def _begin(self, batch: _Batch, row: Row) -> None:
        self._next_id += 1
        ids = openvino.Tensor(np.array([row.prompt], dtype=np.int64))
        try:
            handle = batch.pipeline.add_request(self._next_id, ids, self._config(row.sampling))
        except RuntimeError as failure:
            # The pipeline checks a row before it takes it in: the others are not touched.
            row.listener.failed(EngineFailure(str(failure)))
            return
        batch.running[self._next_id] = _Running(row, handle, time.monotonic() + WANTED_CHECK_S)
        batch.reading.begin(self._next_id, row.prompt)

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
        for number, running in list(batch.running.items()):
            reason = None
            fresh: list[int] = []
            while running.handle.can_read():
                output = running.handle.read()[0]
                fresh += output.generated_ids
                running.row.logprob += sum(output.generated_log_probs)
                reason = output.finish_reason.name.lower()
            if fresh:
                for row in batch.reading.end(number):
                    self._begin(batch, row)
            ended = running.row.take(fresh, None if reason == "none" else reason)
            if ended == "stopped":
                running.handle.cancel()
            if ended:
                self._remove(batch, number)
            elif running.handle.get_status() == openvino_genai.GenerationStatus.IGNORED:
                self._remove(batch, number)
                running.row.listener.failed(EngineFailure("the row does not fit into the engine's cache"))

    def _remove(self, batch: _Batch, number: int) -> None:
        del batch.running[number]
        for row in batch.reading.end(number):
            # It had not read its prompt.
            self._start(batch, row)

    def _drop_unwanted(self, batch: _Batch) -> None:
        now = time.monotonic()
        for number, running in list(batch.running.items()):
            if now < running.next_check:
                continue
            running.next_check = now + WANTED_CHECK_S
            if not running.row.listener.wanted():
                running.handle.cancel()
                self._remove(batch, number)
                running.row.listener.dropped(running.row.result("cancelled"))

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _fail_all(self, failure: EngineFailure) -> None:
        rows: list[Row] = []
        for batch in (self._bulk, self._urgent):
            rows += itertools.chain((each.row for each in batch.running.values()), batch.reading.waiting)
            batch.running.clear()
            batch.reading = Reading()
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
