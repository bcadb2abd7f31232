"""Under which hash an answer is kept: the hard partition of a request, and its exact text in it. Pure.

    key        = hash(partition, text)             equal requests; needs no embedder
    partition  = hash(tenant, model, parameters, every message but the asked one)

Here and not in the cache, since whoever is about to ask a model asks for an answer under the same key just before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from millpond.v1 import request_pb2
from millpond_core.embedding import prompt_text

VERSION = b"1"
"""Of what is hashed, and how. Another one makes all that is stored unreachable."""


def partition_of(request: request_pb2.Request, model: str) -> str:
    """64 hexadecimal digits: the same for two requests whose answers may be exchanged if what they ask means the same.

    Which message is asked is not hashed by itself: the roles say it. A parameter that is left out and the same
    parameter at its default are two partitions: defaults change.
    """
    asked = max((place for place, each in enumerate(request.messages) if each.role == "user"), default=-1)
    parts = [VERSION, request.tenant.encode(), model.encode(), request.params.SerializeToString(deterministic=True)]
    for place, message in enumerate(request.messages):
        parts += [message.role.encode(), b"" if place == asked else message.content.encode()]
    return _hash(parts)


def answer_key(partition: str, text: str) -> str:
    """The text as it came, not even normalised to NFC: a model reads other bytes, and may be asked about them."""
    return _hash([VERSION, partition.encode(), text.encode()])


def request_key(request: request_pb2.Request, model: str) -> str:
    """model: the configured name of the one that would answer."""
    return answer_key(partition_of(request, model), prompt_text(request))


def _hash(parts: Iterable[bytes]) -> str:
    """Each part with its length before it, so that no text can pass for another's part and a half."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
