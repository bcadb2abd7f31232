"""The generator in Triton, with the tensors of Triton's vLLM backend (see config.pbtxt and models/README.md).

`execute` only reads and queues; the engine's thread answers each row as it finishes. An error's message begins with
`context_length_exceeded:`, `invalid_params:` or `engine_error:`.
"""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]
from generator_engine import ContextLengthExceeded, Done, EngineFailure, Limits, open_engine
from sampling import InvalidParams, parse

FIRST_TOKEN_TENSOR = "first_token_ms"
"""Of a row's last response: milliseconds until its first token, its time in the queue included. vLLM's has none."""

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """Raises EngineFailure, which Triton reports as the reason why the model is not ready."""
        parameters = {
            key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        self._name = args["model_name"]
        self._max_output_tokens = int(parameters["max_output_tokens"])
        self._counters = Counters(self._name)
        limits = Limits(
            max_prompt_tokens=int(parameters["max_prompt_tokens"]),
            max_rows=int(parameters["max_rows"]),
            max_batched_tokens=int(parameters["max_batched_tokens"]),
            cache_gb=int(parameters["cache_gb"]),
        )
        # The engine's threads take it on: they are started from here.
        os.nice(int(parameters["nice"]))
        engine = os.environ.get("MILLPOND_GENERATOR_ENGINE") or parameters["engine"]
        model = os.environ.get("MILLPOND_GENERATOR_MODEL") or parameters["model"]
        self._engine = open_engine(engine, _model_path(model), limits, self._die)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._submit(request, sender)
            except Exception as failure:
                sender.send(pb_utils.InferenceResponse(error=_error(failure)), flags=FINAL)

    def finalize(self) -> None:
        self._engine.close()

    def _submit(self, request: Any, sender: Any) -> None:
        """Queue one request. Raises InvalidParams or ContextLengthExceeded."""
        try:
            prompt = _bytes(request, "text_input").decode("utf-8")
        except UnicodeDecodeError as failure:
            raise InvalidParams("text_input is not UTF-8") from failure
        stream = _flag(request, "stream", default=False)
        # As in the vLLM backend: an answer that is not streamed repeats the prompt unless told otherwise.
        bare = _flag(request, "exclude_input_in_output", default=stream)
        if stream and not bare:
            raise InvalidParams("exclude_input_in_output must be true when stream is")
        # Without the tensor the request's own parameters count, also as in the vLLM backend.
        given = _bytes(request, "sampling_parameters") or request.parameters() or "{}"
        sampling = parse(given, self._max_output_tokens)
        listener = Answer(request, sender, self._counters, prefix="" if bare else prompt)
        self._engine.submit(prompt, sampling, stream, listener)

    def _die(self, failure: BaseException) -> None:
        """End the process: a model whose engine is gone must be seen to be gone."""
        traceback.print_exception(failure)
        pb_utils.Logger.log_error(f"{self._name}: the engine died, so its process ends: {failure}")
        os._exit(1)


class Counters:
    """millpond_engine_tokens_total{model, direction}: tokens of rows that ended, those given up included."""

    def __init__(self, model: str) -> None:
        family = pb_utils.MetricFamily(
            name="millpond_engine_tokens_total",
            description="Tokens that the engine read (input) and made (output), rows that were given up included",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self._input = family.Metric(labels={"model": model, "direction": "input"})
        self._output = family.Metric(labels={"model": model, "direction": "output"})
        # The metrics live as long as their family.
        self._family = family

    def count(self, result: Done) -> None:
        self._input.increment(result.input_tokens)
        self._output.increment(result.output_tokens)


class Answer:
    """The listener of one request's row: sends its responses."""

    def __init__(self, request: Any, sender: Any, counters: Counters, prefix: str) -> None:
        self._sender = sender
        self._counters = counters
        self._prefix = prefix
        self._returns = {
            name: _flag(request, f"return_{name}", default=False)
            for name in ("finish_reason", "num_input_tokens", "num_output_tokens", "cumulative_logprob")
        }

    def piece(self, text: str, input_tokens: int, output_tokens: int) -> None:
        # "None" is what the vLLM backend sends for a row that goes on.
        self._send(text, Done("None", input_tokens, output_tokens), flags=0)

    def done(self, text: str, result: Done, output_tokens: int) -> None:
        self._counters.count(result)
        self._send(self._prefix + text, replace(result, output_tokens=output_tokens), flags=FINAL)

    def failed(self, failure: Exception) -> None:
        self._sender.send(pb_utils.InferenceResponse(error=_error(failure)), flags=FINAL)

    def wanted(self) -> bool:
        return not self._sender.is_cancelled()

    def dropped(self, result: Done) -> None:
        self._counters.count(result)
        error = pb_utils.TritonError("cancelled: nobody waits for this row", pb_utils.TritonError.CANCELLED)
        self._sender.send(pb_utils.InferenceResponse(error=error), flags=FINAL)

    def _send(self, text: str, result: Done, flags: int) -> None:
        tensors = [_tensor("text_output", text)]
        if self._returns["finish_reason"]:
            tensors.append(_tensor("finish_reason", result.finish_reason))
        if self._returns["num_input_tokens"]:
            tensors.append(pb_utils.Tensor("num_input_tokens", np.array([result.input_tokens], dtype=np.uint32)))
        if self._returns["num_output_tokens"]:
            tensors.append(pb_utils.Tensor("num_output_tokens", np.array([result.output_tokens], dtype=np.uint32)))
        if self._returns["cumulative_logprob"]:
            tensors.append(pb_utils.Tensor("cumulative_logprob", np.array([result.logprob], dtype=np.float32)))
        if flags:
            first_ms = np.array([int(result.first_token_s * 1000)], dtype=np.uint32)
            tensors.append(pb_utils.Tensor(FIRST_TOKEN_TENSOR, first_ms))
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=flags)


def _tensor(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode("utf-8")], dtype=np.object_))


def _bytes(request: Any, name: str) -> bytes:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return b"" if tensor is None else bytes(tensor.as_numpy().reshape(-1)[0])


def _flag(request: Any, name: str, default: bool) -> bool:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy().reshape(-1)[0])


def _error(failure: Exception) -> Any:
    if isinstance(failure, InvalidParams):
        return pb_utils.TritonError(f"invalid_params: {failure}", pb_utils.TritonError.INVALID_ARG)
    if isinstance(failure, ContextLengthExceeded):
        return pb_utils.TritonError(f"context_length_exceeded: {failure}", pb_utils.TritonError.INVALID_ARG)
    return pb_utils.TritonError(f"engine_error: {failure}", pb_utils.TritonError.INTERNAL)


def _model_path(model: str) -> Path:
    """The model's file or folder. Raises EngineFailure."""
    root = os.environ.get("MILLPOND_MODELS_DIR")
    if root is None and not Path(model).is_absolute():
        raise EngineFailure("set MILLPOND_MODELS_DIR to the folder that models/prepare.py --target filled")
    path = Path(root or "/") / model
    if not path.exists():
        raise EngineFailure(f"{path} is missing: run models/prepare.py --target {root}")
    return path
