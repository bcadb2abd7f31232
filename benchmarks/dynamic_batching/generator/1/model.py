"""The generator's engine with Triton's dynamic batching before it, in windows (see config.pbtxt).

MILLPOND_GENERATOR_CODE names the folder of models/generator/1.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

sys.path.insert(0, os.environ["MILLPOND_GENERATOR_CODE"])

from generator_engine import Done, Limits
from row_engine import RowEngine
from sampling import parse

LIMITS = Limits(max_prompt_tokens=2048, max_rows=128, max_batched_tokens=256, cache_gb=1)
"""As in models/generator/config.pbtxt."""


class Row:
    """Listens to its row, and waits for it."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._response: Any = None

    def piece(self, text: str, input_tokens: int, output_tokens: int) -> None: ...

    def done(self, text: str, result: Done, output_tokens: int) -> None:  # noqa: ARG002
        texts = pb_utils.Tensor("text_output", np.array([[text.encode()]], dtype=np.object_))
        counts = pb_utils.Tensor("num_input_tokens", np.array([[result.input_tokens]], dtype=np.uint32))
        self._end(pb_utils.InferenceResponse(output_tensors=[texts, counts]))

    def failed(self, failure: Exception) -> None:
        self._end(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(failure))))

    def wanted(self) -> bool:
        return True

    def dropped(self, result: Done) -> None: ...

    def response(self) -> Any:
        self._ended.wait()
        return self._response

    def _end(self, response: Any) -> None:
        self._response = response
        self._ended.set()


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        model = json.loads(args["model_config"])["parameters"]["model"]["string_value"]
        # Without its engine the process is of no use.
        self._engine = RowEngine(Path(os.environ["MILLPOND_MODELS_DIR"]) / model, LIMITS, lambda _: os._exit(1))

    def execute(self, requests: list[Any]) -> list[Any]:
        rows = [self._begin(request) for request in requests]
        return [row.response() for row in rows]

    def finalize(self) -> None:
        self._engine.close()

    def _begin(self, request: Any) -> Row:
        row = Row()
        sampling = parse(_text(request, "sampling_parameters"), 2048)
        self._engine.submit(_text(request, "text_input"), sampling, False, row)
        return row


def _text(request: Any, name: str) -> str:
    return bytes(pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]).decode()
