"""The verifier on a CPU: an OpenVINO int8 graph that models/prepare.py built from the embedder's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from tokenizers import Tokenizer

ROWS_AT_ONCE = 16
"""Pairs of similar length that share a call: as many as the embedder's engine takes."""

READS_TOKENS = 256
"""Of both texts and the special tokens. Of longer ones the ends are cut off; the cache does not ask about them."""


class VerifierUnavailable(RuntimeError):
    """The verifier cannot start; the message says what to do."""


class VerifierEngine:
    """Not safe for use by two threads at once. Source of the graph: models/minilm_graph.py."""

    def __init__(self, assets: Path, threads: int = 0) -> None:
        """assets: the folder that models/prepare.py filled. threads: 0 takes all cores. Raises VerifierUnavailable."""
        graph = assets / "verifier" / "int8.xml"
        if not graph.is_file():
            raise VerifierUnavailable(f"{graph} is missing: run models/prepare.py --target {assets}")
        settings = {"PERFORMANCE_HINT": "LATENCY", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        core = openvino.Core()
        self._request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
        self._tokenizer = Tokenizer.from_file(str(assets / "embedder" / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(READS_TOKENS)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """pairs: (cached, asked). Returns logits, float32 [pairs], in their order."""
        encoded = self._tokenizer.encode_batch(list(pairs))
        logits = np.empty(len(encoded), dtype=np.float32)
        by_length = sorted(range(len(encoded)), key=lambda row: len(encoded[row].ids))
        for first in range(0, len(by_length), ROWS_AT_ONCE):
            rows = by_length[first : first + ROWS_AT_ONCE]
            shape = (len(rows), max(len(encoded[row].ids) for row in rows))
            ids, mask, segments = (np.zeros(shape, dtype=np.int32) for _ in range(3))
            for index, row in enumerate(rows):
                length = len(encoded[row].ids)
                ids[index, :length] = encoded[row].ids
                segments[index, :length] = encoded[row].type_ids
                mask[index, :length] = 1
            self._request.infer({"ids": ids, "mask": mask, "segments": segments})
            logits[rows] = self._request.get_output_tensor(0).data
        return logits
