"""Runs rows on torch: transformers' own continuous batching, on a GPU where there is one. No Triton here.

For where only torch is there; vLLM (models/vllm) is faster on a GPU. Penalties, a seed,
min_tokens below max_tokens and log-probabilities are refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from generator_engine import EngineFailure, Limits, Listener, check_prompt
from row import Row
from sampling import InvalidParams, Sampling
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

RESULT_S = 0.1
"""Seconds that a result is waited for, before it is asked whether the rows are still wanted."""

PAGE_TOKENS = 256
"""Of one page of the cache: transformers' own default."""

SAMPLES = GenerationConfig(do_sample=True, temperature=0.9, top_p=0.9, top_k=50)
"""Each row says its own; a value that samples as if it were not there would leave its step out for all of them."""


class TorchEngine:
    """submit may be called from any thread."""

    def __init__(self, model: Path, limits: Limits, on_death: Callable[[BaseException], None]) -> None:
        """Raises EngineFailure."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(model))
            net = AutoModelForCausalLM.from_pretrained(str(model), dtype="auto").to(device).eval()
        except (OSError, ValueError, RuntimeError) as failure:
            raise EngineFailure(f"cannot load {model}: {failure}") from failure
        self._limits = limits
        self._on_death = on_death
        self._vocabulary = int(net.config.vocab_size)
        self._end = net.generation_config.eos_token_id
        self._rows: dict[str, Row] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._closing = False
        self._manager = net.init_continuous_batching(
            generation_config=SAMPLES,
            continuous_batching_config=ContinuousBatchingConfig(
                num_blocks=_blocks(net.config, net.dtype, limits.cache_gb),
                max_batch_tokens=limits.max_batched_tokens,
                max_requests_per_batch=limits.max_rows,
                per_request_processors=True,
            ),
        )
        self._manager.start()
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()

    def submit(self, prompt: str, sampling: Sampling, stream: bool, listener: Listener) -> None:
        tokens: list[int] = self._tokenizer.encode(prompt, add_special_tokens=False)
        check_prompt(tokens, self._limits)
        ignores_end = _ignores_end(sampling)
        with self._lock:
            self._next += 1
            number = str(self._next)
            self._rows[number] = Row(tokens, sampling, stream, listener, self._decode)
        self._manager.add_request(
            tokens,
            request_id=number,
            max_new_tokens=sampling.max_tokens,
            streaming=True,
            eos_token_id=-1 if ignores_end or self._end is None else self._end,
            # The likeliest token is the one of which there is no other.
            temperature=sampling.temperature or 1.0,
            top_k=1 if sampling.greedy else min(sampling.top_k or self._vocabulary, self._vocabulary),
            top_p=sampling.top_p,
        )

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._manager.stop(block=True)

    def _run(self) -> None:
        try:
            checked_s = time.monotonic()
            while self._rows or not self._closing:
                output = self._manager.get_result(timeout=RESULT_S)
                if output is not None:
                    self._take(output)
                elif not self._manager.is_running():
                    raise EngineFailure("its thread ended")
                if time.monotonic() - checked_s >= RESULT_S:
                    self._drop_unwanted()
                    checked_s = time.monotonic()
        except BaseException as failure:
            with self._lock:
                rows = list(self._rows.values())
                self._rows.clear()
            for row in rows:
                row.listener.failed(EngineFailure(f"the engine died: {failure}"))
            self._on_death(failure)

    def _take(self, output: Any) -> None:
        row = self._rows.get(output.request_id)
        if row is None:
            return
        if output.error is not None:
            self._remove(output.request_id)
            row.listener.failed(EngineFailure(output.error))
            return
        fresh = output.generated_tokens[len(row.tokens) :]
        reason = None
        if output.is_finished():
            ends = self._end if isinstance(self._end, list) else [self._end]
            reason = "stop" if output.generated_tokens and output.generated_tokens[-1] in ends else "length"
        ended = row.take(fresh, reason)
        if ended == "stopped":
            self._manager.cancel_request(output.request_id)
        if ended:
            self._remove(output.request_id)

    def _drop_unwanted(self) -> None:
        with self._lock:
            rows = dict(self._rows)
        for number, row in rows.items():
            if not row.listener.wanted():
                self._manager.cancel_request(number)
                self._remove(number)
                row.listener.dropped(row.result("cancelled"))

    def _remove(self, number: str) -> None:
        with self._lock:
            self._rows.pop(number, None)

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)


def _ignores_end(sampling: Sampling) -> bool:
    """Whether the row has exactly max_tokens. Raises InvalidParams for what is not done here."""
    plain = Sampling()
    for name in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
        if getattr(sampling, name) != getattr(plain, name):
            raise InvalidParams(f"{name} is not there on this engine")
    if sampling.seed is not None and not sampling.greedy:
        raise InvalidParams("seed is not there on this engine")
    if sampling.logprobs:
        # transformers reads them of what the row's sampling leaves: of the likeliest token alone, always 0.
        raise InvalidParams("logprobs are not there on this engine")
    if sampling.min_tokens not in (0, sampling.max_tokens):
        raise InvalidParams("min_tokens must be left out or max_tokens on this engine")
    return sampling.ignore_eos or sampling.min_tokens > 0


def _blocks(config: Any, kind: torch.dtype, cache_gb: int) -> int:
    """Pages of keys and values, over all layers, that fit into so many gigabytes."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * width * kind.itemsize
    return max((cache_gb << 30) // (token_bytes * PAGE_TOKENS), 1)
