"""Runs rows on OpenVINO GenAI's continuous batching, one thread over all of them. No Triton here.

```
submit ──▶ queue ──▶ admit ─▶ step ─▶ read ──▶ Listener.piece, …, Listener.done
                       ▲                 │
                       └── drop a row that nobody waits for; begin those that waited for a prompt like theirs
```

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
from dataclasses import dataclass
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


@dataclass
class _Running:
    """A row, and the engine's handle of it. next_check: when to ask whether it is still wanted."""

    row: Row
    handle: Any
    next_check: float


class RowEngine:
    """submit may be called from any thread."""

    def __init__(self, model: Path, limits: Limits, on_death: Callable[[BaseException], None]) -> None:
        """Load the model, some 5 s. Raises EngineFailure when it cannot be read.

        on_death: called on the engine's thread with what ended it, after every row was answered.
        """
        try:
            self._pipeline = _pipeline(model, limits)
        except Exception as failure:
            raise EngineFailure(f"cannot load {model}: {failure}") from failure
        self._tokenizer = self._pipeline.get_tokenizer()
        self._base = self._pipeline.get_config()
        self._running: dict[int, _Running] = {}
        self._reading: Reading[Row] = Reading()
        self._limits = limits
        self._on_death = on_death
        self._queue: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._next_id = 0
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()

    def submit(self, prompt: str, sampling: Sampling, stream: bool, listener: Listener) -> None:
        """Queue a row; its listener hears from it later.

        Raises ContextLengthExceeded, or InvalidParams for a prompt of no tokens.
        """
        # The prompt is templated already: its special tokens are in the text.
        tokens = self._tokenizer.encode(prompt, add_special_tokens=False).input_ids.data[0].tolist()
        check_prompt(tokens, self._limits)
        self._queue.put(Row(tokens, sampling, stream, listener, self._decode))

    def close(self) -> None:
        """Finish the rows that run, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._admit():
                self._pipeline.step()
                self._read()
                self._drop_unwanted()
        except BaseException as failure:
            self._fail_all(EngineFailure(f"the engine died: {failure}"))
            self._on_death(failure)

    def _admit(self) -> bool:
        """Take in what was submitted; wait while there is nothing to run. False when closed and done."""
        while True:
            try:
                queued = self._queue.get(block=not self._running)
            except queue.Empty:
                return True
            if queued is None:
                if not self._running:
                    return False
                # Closed with rows running: the mark goes back, to be found when they are done.
                self._queue.put(None)
                return True
            self._start(queued)

    def _start(self, row: Row) -> None:
        if not self._reading.waits(row.prompt, row):
            self._begin(row)

    def _begin(self, row: Row) -> None:
        self._next_id += 1
        ids = openvino.Tensor(np.array([row.prompt], dtype=np.int64))
        try:
            handle = self._pipeline.add_request(self._next_id, ids, self._config(row.sampling))
        except RuntimeError as failure:
            # The pipeline checks a row before it takes it in: the others are not touched.
            row.listener.failed(EngineFailure(str(failure)))
            return
        self._running[self._next_id] = _Running(row, handle, time.monotonic() + WANTED_CHECK_S)
        self._reading.begin(self._next_id, row.prompt)

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

    def _read(self) -> None:
        for number, running in list(self._running.items()):
            reason = None
            fresh: list[int] = []
            while running.handle.can_read():
                output = running.handle.read()[0]
                fresh += output.generated_ids
                running.row.logprob += sum(output.generated_log_probs)
                reason = output.finish_reason.name.lower()
            if fresh:
                for row in self._reading.end(number):
                    self._begin(row)
            ended = running.row.take(fresh, None if reason == "none" else reason)
            if ended == "stopped":
                running.handle.cancel()
            if ended:
                self._remove(number)
            elif running.handle.get_status() == openvino_genai.GenerationStatus.IGNORED:
                self._remove(number)
                running.row.listener.failed(EngineFailure("the row does not fit into the engine's cache"))

    def _remove(self, number: int) -> None:
        del self._running[number]
        for row in self._reading.end(number):
            # It had not read its prompt.
            self._start(row)

    def _drop_unwanted(self) -> None:
        now = time.monotonic()
        for number, running in list(self._running.items()):
            if now < running.next_check:
                continue
            running.next_check = now + WANTED_CHECK_S
            if not running.row.listener.wanted():
                running.handle.cancel()
                self._remove(number)
                running.row.listener.dropped(running.row.result("cancelled"))

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _fail_all(self, failure: EngineFailure) -> None:
        rows = [*(each.row for each in self._running.values()), *self._reading.waiting]
        self._running.clear()
        self._reading = Reading()
        while not self._queue.empty():
            if row := self._queue.get():
                rows.append(row)
        for row in rows:
            row.listener.failed(failure)


def _pipeline(model: Path, limits: Limits) -> Any:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = limits.cache_gb
    scheduler.max_num_seqs = limits.max_rows
    scheduler.max_num_batched_tokens = limits.max_batched_tokens
    scheduler.dynamic_split_fuse = True
    # Requests of one tenant share their system prompt: its keys and values are computed once.
    scheduler.enable_prefix_caching = True
    return openvino_genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", {})
