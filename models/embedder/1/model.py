"""The embedder in Triton: text BYTES [rows, 1] → embedding FP32 [rows, 384], tokens INT32 [rows, 1]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]
from embedder_engine import EmbedderUnavailable, open_engine


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """Raises EmbedderUnavailable, which Triton reports as the reason why the model is not ready."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        name = os.environ.get("MILLPOND_EMBEDDER_ENGINE") or parameters["engine"]
        self._engine = open_engine(name, _folder(parameters.get("folder")), parameters["version"])
        promised = pb_utils.get_output_config_by_name(config, "embedding")["dims"][0]
        if promised != self._engine.dimension:
            raise EmbedderUnavailable(
                f"the model gives {self._engine.dimension} numbers: set embedding's dims in embedder/config.pbtxt"
            )
        # The first call compiles; the first client should not pay for it.
        self._engine.embed(["warm", "up " * 64])

    def execute(self, requests: list[Any]) -> list[Any]:
        """All rows of all requests in one call to the engine; each request answered by itself."""
        columns = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy().reshape(-1) for request in requests]
        # What is not UTF-8 is embedded with replacement characters: no text is refused.
        texts = [bytes(value).decode("utf-8", errors="replace") for column in columns for value in column]
        try:
            embeddings = self._engine.embed(texts)
        except Exception as failure:
            error = pb_utils.TritonError(f"engine_error: {failure}")
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        responses: list[Any] = []
        first = 0
        for column in columns:
            rows = slice(first, first + len(column))
            first = rows.stop
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("embedding", np.ascontiguousarray(embeddings.vectors[rows])),
                        pb_utils.Tensor("tokens", embeddings.tokens[rows].reshape(-1, 1)),
                    ]
                )
            )
        return responses


def _folder(exported: str | None) -> Path:
    """exported: among the model files, of an encoder that training/router/export.py made."""
    own, root = os.environ.get("MILLPOND_EMBEDDER_MODEL"), os.environ.get("MILLPOND_MODELS_DIR")
    if own and exported is None:
        return Path(own)
    if root:
        return Path(root) / (exported or "embedder")
    raise EmbedderUnavailable("set MILLPOND_MODELS_DIR to the folder that models/prepare.py --target filled")
