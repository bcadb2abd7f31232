"""What the router looks at of a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.embedding import prompt_text, unpack
from millpond_core.validate import answer_tokens, estimated_tokens
from millpond_router.heads import Reading

SEARCHED_CHARACTERS = 8_000
"""How far into a text words are looked for: what it is about is said by then."""

_WORD = re.compile(r"[\w+#]+")


@dataclass(frozen=True, slots=True)
class Features:
    """One request, as rules and classifiers see it.

    words: the last message of the user, as `words_of` has it. characters, tokens: of all messages; tokens as estimated.
    language: ISO 639, "" where it is not clear. model, tier: as asked; "" or "auto", and 0, leave it to the router.
    deadline_s: as asked, in seconds since 1970. vector: of the text, of L2 norm 1, made by the embedder `version`;
    None where the embedder did not answer. reading: what the heads say of the text; None without them or the vector.
    """

    tenant: str
    metadata: Mapping[str, str]
    words: str
    characters: int
    tokens: int
    max_tokens: int
    messages: int
    language: str = ""
    model: str = ""
    tier: request_pb2.Tier = request_pb2.TIER_UNSPECIFIED
    deadline_s: float | None = None
    vector: NDArray[np.float32] | None = None
    version: str = ""
    reading: Reading | None = None


def features_of(
    request: request_pb2.Request,
    tier: request_pb2.Tier,
    language: str,
    embedding: envelope_pb2.Embedding | None,
    *,
    reading: Reading | None = None,
) -> Features:
    """tier: as asked, before it was filled in."""
    return Features(
        tenant=request.tenant,
        metadata=request.metadata,
        words=words_of(prompt_text(request)),
        characters=sum(len(message.content) for message in request.messages),
        tokens=estimated_tokens(request),
        max_tokens=answer_tokens(request.params),
        messages=len(request.messages),
        language=language,
        model=request.model,
        tier=tier,
        deadline_s=request.deadline.ToNanoseconds() / 1e9 if request.HasField("deadline") else None,
        vector=None if embedding is None else unpack(embedding),
        version="" if embedding is None else embedding.version,
        reading=reading,
    )


def words_of(text: str) -> str:
    """Its words in lower case, a blank before and after each: " how does c++ work ".

    A phrase is then found as fast as text can be searched, and only as whole words.
    """
    return f" {' '.join(_WORD.findall(text[:SEARCHED_CHARACTERS].lower()))} "
