"""The verifier in Triton: cached, asked BYTES [rows, 1] → logit FP32 [rows, 1]."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]
from verifier_engine import VerifierEngine, VerifierUnavailable


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        """Raises VerifierUnavailable, which Triton reports as the reason why the model is not ready."""
        assets = os.environ.get("MILLPOND_MODELS_DIR")
        if not assets:
            raise VerifierUnavailable("set MILLPOND_MODELS_DIR to the folder that models/prepare.py --target filled")
        self._engine = VerifierEngine(Path(assets))
        # The first call compiles; the first client should not pay for it.
        self._engine.score([("warm", "up " * 64), ("warm", "up")])

    def execute(self, requests: list[Any]) -> list[Any]:
        """All rows of all requests in one call to the engine; each request answered by itself."""
        columns = [[_texts(request, name) for name in ("cached", "asked")] for request in requests]
        pairs = [pair for cached, asked in columns for pair in zip(cached, asked, strict=True)]
        try:
            logits = self._engine.score(pairs)
        except Exception as failure:
            error = pb_utils.TritonError(f"engine_error: {failure}")
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        responses: list[Any] = []
        first = 0
        for cached, _ in columns:
            rows = logits[first : first + len(cached)]
            first += len(cached)
            tensor = pb_utils.Tensor("logit", np.ascontiguousarray(rows.reshape(-1, 1)))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses


def _texts(request: Any, name: str) -> list[str]:
    """What is not UTF-8 is read with replacement characters: no text is refused."""
    column = pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)
    return [bytes(value).decode("utf-8", errors="replace") for value in column]
