"""What an engine of the embedder is, which one runs, and on which weights. No Triton here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EmbedderUnavailable(RuntimeError):
    """The embedder cannot start; the message says what to do."""


@dataclass(frozen=True)
class Embeddings:
    """vectors: float32 [texts, dimension], each of L2 norm 1.

    tokens: int32 [texts], special tokens included, before the text was cut to what the model reads.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int32]


class Engine(Protocol):
    """Turns texts into vectors. Raises nothing for any text, the empty one included."""

    dimension: int

    def embed(self, texts: Sequence[str]) -> Embeddings: ...


def weights_digest(folder: Path) -> str:
    """The first eight hex digits of the sha256 of the folder's weights. Raises EmbedderUnavailable."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()[:8]
    raise EmbedderUnavailable(
        f"{folder} holds no model.safetensors: run models/prepare.py --target DIR and set MILLPOND_MODELS_DIR=DIR"
    )


def open_engine(name: str, folder: Path, version: str) -> Engine:
    """Load the engine called name on a sentence-transformers folder.

    version: ends in the weights' digest (`weights_digest`), so that no vectors are served under a wrong version.
    Raises EmbedderUnavailable for an unknown name, missing files or other weights.
    """
    digest = weights_digest(folder)
    if not version.endswith(f"-{digest}"):
        raise EmbedderUnavailable(
            f"the weights in {folder} have digest {digest}, but the version is {version}: "
            f"set the parameter version in embedder/config.pbtxt to NAME-{digest}"
        )
    # The engines are imported here because an environment has the libraries of one or of both.
    if name == "int8":
        from int8_engine import Int8Engine

        return Int8Engine(folder, version)
    if name == "sentence-transformers":
        from sentence_transformers_engine import SentenceTransformersEngine

        return SentenceTransformersEngine(folder)
    raise EmbedderUnavailable(f"no engine {name!r}: MILLPOND_EMBEDDER_ENGINE is int8 or sentence-transformers")
