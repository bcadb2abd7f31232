"""The int8 engine: OpenVINO on the CPU over the file that prepare.py builds. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from embedder_engine import EmbedderUnavailable, Embeddings
from numpy.typing import NDArray
from tokenizers import Tokenizer

ROWS_AT_ONCE = 8
"""Rows of similar length that share a call: on two cores, questions of 13 tokens went through at 395/s in eights, 365/s
in sixteens and 290/s in thirty-twos, which pad more. Also what a batch is cut into for the cores to share."""


class Int8Engine:
    """Not safe for use by two threads at once. Source of the graph: models/minilm_graph.py."""

    def __init__(self, folder: Path, version: str) -> None:
        """folder: a sentence-transformers folder with int8.xml. Raises EmbedderUnavailable."""
        graph = folder / "int8.xml"
        if not graph.is_file():
            raise EmbedderUnavailable(f"{graph} is missing: run models/prepare.py --target {folder.parent}")
        core = openvino.Core()
        model = core.read_model(graph)
        built_for = str(model.get_rt_info(["millpond", "version"]).astype(str))
        if built_for != version:
            raise EmbedderUnavailable(f"{graph} was built for {built_for}, not {version}: run models/prepare.py")
        # A call to each core, not all cores to each call: no core waits for another at the end of every layer, which
        # is a fifth more texts a second and a fifth less of the processors.
        # Activations share a scale in groups of 32, as the weights do; this is also the plugin's default today.
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}
        self._calls = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._reads = int(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
        self.dimension = int(json.loads((folder / "config.json").read_text())["hidden_size"])

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """texts: one or more."""
        whole = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        tokens = np.array([len(ids) for ids in whole], dtype=np.int32)
        # A text that is too long keeps its opening and the closing special token.
        cut = [ids if len(ids) <= self._reads else [*ids[: self._reads - 1], ids[-1]] for ids in whole]
        vectors = np.empty((len(cut), self.dimension), dtype=np.float32)
        by_length = sorted(range(len(cut)), key=lambda row: len(cut[row]))

        def answered(request: openvino.InferRequest, rows: list[int]) -> None:
            vectors[rows] = request.get_output_tensor(0).data

        self._calls.set_callback(answered)
        size = min(ROWS_AT_ONCE, -(-len(cut) // len(self._calls)))
        # The longest first: the last to end is then a short one.
        for first in reversed(range(0, len(by_length), size)):
            rows = by_length[first : first + size]
            self._calls.start_async(_inputs([cut[row] for row in rows]), rows)
        self._calls.wait_all()
        return Embeddings(vectors, tokens)


def _inputs(rows: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int32]]:
    """Padded to the longest."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = np.zeros(shape, dtype=np.int32)
    mask = np.zeros(shape, dtype=np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"ids": ids, "mask": mask}
