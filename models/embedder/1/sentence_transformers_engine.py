"""The sentence-transformers engine: any sentence-transformers folder, on a GPU where there is one. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from embedder_engine import EmbedderUnavailable, Embeddings

ROWS_AT_ONCE = 64
"""The model's largest batch; the library sorts by length within it."""


class SentenceTransformersEngine:
    """The reference that the int8 engine is measured against."""

    def __init__(self, folder: Path) -> None:
        """Raises EmbedderUnavailable when this environment has no sentence-transformers."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as missing:
            raise EmbedderUnavailable(
                "this environment has no sentence-transformers: install requirements/models-torch.txt too"
            ) from missing
        self._model = SentenceTransformer(str(folder), local_files_only=True)
        self.dimension = int(self._model.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        vectors = self._model.encode(
            list(texts),
            batch_size=ROWS_AT_ONCE,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        # The library's own call cuts at max_seq_length; the count is of the whole text.
        whole = self._model.tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        tokens = np.array([len(ids) for ids in whole], dtype=np.int32)
        return Embeddings(np.asarray(vectors, dtype=np.float32), tokens)
