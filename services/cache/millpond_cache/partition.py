"""What is looked up: a text inside the hard partition of its request (`millpond_core.cache_key`). Pure.

    space      = tenant, partition, embedder       where vectors may be compared

The embedder's version is in the space and not in the partition: no vector is compared across versions, while the same
text is the same text whichever embedder read it, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.cache_key import answer_key, partition_of
from millpond_core.embedding import PACKED, prompt_text, reads_all, unpack

MAX_TEXT_BYTES = 8192
"""Of a text that is compared by its vector. 256 tokens of prose are some 1,200 bytes, but the embedder reads a word of
any length as one unknown token."""

MAX_EMBEDDER_BYTES = 256


class Space(NamedTuple):
    """Where vectors may be compared."""

    tenant: str
    partition: str
    embedder: str


@dataclass(frozen=True, eq=False, slots=True)
class Question:
    """What is looked up.

    key, partition: 64 hexadecimal digits. model: the configured name of the one that would answer.
    vector: float32 [dimension], None where only the exact text may match, and then `exact_only` is why.
    """

    tenant: str
    model: str
    partition: str
    key: str
    text: str
    embedder: str
    vector: NDArray[np.float32] | None
    exact_only: str

    @property
    def space(self) -> Space:
        return Space(self.tenant, self.partition, self.embedder)


def question_of(
    request: request_pb2.Request, model: str, embedding: envelope_pb2.Embedding | None, dimension: int
) -> Question:
    """embedding: of prompt_text(request), None without one. dimension: of vectors in the store; others are not used."""
    partition = partition_of(request, model)
    text = prompt_text(request)
    exact_only = ""
    vector = None
    if embedding is None or not (0 < len(embedding.version.encode()) <= MAX_EMBEDDER_BYTES):
        exact_only = "no_embedding"
    elif not reads_all(embedding) or len(text.encode()) > MAX_TEXT_BYTES:
        exact_only = "long_text"
    else:
        vector = unpack(embedding) if len(embedding.vector) == dimension * PACKED.itemsize else None
        if vector is None or not np.isfinite(vector).all() or not vector.any():
            vector, exact_only = None, "no_embedding"
    embedder = embedding.version if embedding is not None and vector is not None else ""
    return Question(request.tenant, model, partition, answer_key(partition, text), text, embedder, vector, exact_only)
