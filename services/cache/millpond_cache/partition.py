"""The hard partition of a request: what an answer depends on besides the text that is asked. Pure.

    key        = hash(partition, text)             equal requests; needs no embedder
    partition  = hash(tenant, model, parameters, every message but the asked one)
    space      = tenant, partition, embedder       where vectors may be compared

The embedder's version is in the space and not in the partition: no vector is compared across versions, while the same
text is the same text whichever embedder read it, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.embedding import prompt_text, reads_all, unpack

VERSION = b"1"
"""Of what is hashed, and how. Another one makes all that is stored unreachable."""

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
        vector = unpack(embedding)
        if vector.shape != (dimension,) or not np.isfinite(vector).all() or not vector.any():
            vector, exact_only = None, "no_embedding"
    embedder = embedding.version if embedding is not None and vector is not None else ""
    return Question(request.tenant, model, partition, key_of(partition, text), text, embedder, vector, exact_only)


def partition_of(request: request_pb2.Request, model: str) -> str:
    """The same for two requests whose answers may be exchanged if their asked texts mean the same.

    Which message is asked is not hashed by itself: the roles say it. A parameter that is left out and the same
    parameter at its default are two partitions: defaults change.
    """
    asked = max((place for place, each in enumerate(request.messages) if each.role == "user"), default=-1)
    parts = [VERSION, request.tenant.encode(), model.encode(), request.params.SerializeToString(deterministic=True)]
    for place, message in enumerate(request.messages):
        parts += [message.role.encode(), b"" if place == asked else message.content.encode()]
    return _hash(parts)


def key_of(partition: str, text: str) -> str:
    """The text as it came, not even normalised to NFC: a model reads other bytes, and may be asked about them."""
    return _hash([VERSION, partition.encode(), text.encode()])


def _hash(parts: Iterable[bytes]) -> str:
    """Each part with its length before it, so that no text can pass for another's part and a half."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
