"""Vectors as they travel, and which text of a request they stand for. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2

READS_TOKENS = 256
"""What the embedder reads of a text. Of two longer texts with the same opening it makes the same vector."""

PACKED = np.dtype("<f2")


def pack(vector: NDArray[np.float32], version: str, tokens: int) -> envelope_pb2.Embedding:
    """vector: of L2 norm 1. version: the embedder's name and weights. tokens: of the whole text."""
    return envelope_pb2.Embedding(vector=vector.astype(PACKED).tobytes(), version=version, tokens=tokens)


def unpack(embedding: envelope_pb2.Embedding) -> NDArray[np.float32]:
    """Of L2 norm 1 to within float16: 384 numbers, each within 5e-4 of itself."""
    return np.frombuffer(embedding.vector, PACKED).astype(np.float32)


def cosine(one: envelope_pb2.Embedding, other: envelope_pb2.Embedding) -> float:
    """From -1 to 1. Raises ValueError for vectors of two versions, which are never compared."""
    if one.version != other.version:
        raise ValueError(f"vectors of {one.version} and {other.version} cannot be compared")
    a, b = unpack(one), unpack(other)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / norms, -1, 1)) if norms else 0.0


def reads_all(embedding: envelope_pb2.Embedding) -> bool:
    """Whether the vector stands for the whole text. Where not, only exact matches are to be trusted."""
    return embedding.tokens <= READS_TOKENS


def prompt_text(request: request_pb2.Request) -> str:
    """What is embedded: the last message that the user wrote, "" without one.

    All other messages, later ones included, belong to the partition in which the vector is compared.
    """
    return next((message.content for message in reversed(request.messages) if message.role == "user"), "")
