"""A model that answers its prompt at once, with the tensors of models/generator (see config.pbtxt)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]
from echo import Calls, Echo

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

MAX_TOKENS = 128
"""Of an answer whose request names no number."""


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        self._calls = Calls()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            request.get_response_sender().send(self._response(request), flags=FINAL)

    def _response(self, request: Any) -> Any:
        prompt = _bytes(request, "text_input").decode("utf-8", errors="replace")
        if not prompt:
            # What a look whether the model answers asks.
            message = "invalid_params: the prompt is empty"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        sampling = json.loads(_bytes(request, "sampling_parameters") or b"{}")
        answer = self._calls.answer(prompt, sampling.get("max_tokens", MAX_TOKENS))
        return pb_utils.InferenceResponse(output_tensors=_tensors(answer))


def _tensors(answer: Echo) -> list[Any]:
    return [
        pb_utils.Tensor("text_output", np.array([answer.text.encode()], dtype=np.object_)),
        pb_utils.Tensor("finish_reason", np.array([answer.finish_reason.encode()], dtype=np.object_)),
        pb_utils.Tensor("num_input_tokens", np.array([answer.input_tokens], dtype=np.uint32)),
        pb_utils.Tensor("num_output_tokens", np.array([answer.output_tokens], dtype=np.uint32)),
    ]


def _bytes(request: Any, name: str) -> bytes:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return b"" if tensor is None else bytes(tensor.as_numpy().reshape(-1)[0])
