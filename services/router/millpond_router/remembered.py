"""Embeddings of texts that came before: a template or a retry is embedded now and then, not each time."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from millpond.v1 import envelope_pb2
from millpond_core.clock import Clock
from millpond_core.embedder import VERSION_KNOWN_S

REMEMBERED = 4096
"""Texts, some 1 KB each."""


class Embeddings(Protocol):
    async def of(self, texts: Sequence[str], *, urgent: bool) -> Sequence[envelope_pb2.Embedding | None]: ...


class RememberedEmbeddings:
    """What the embedder said lately of the same text.

    Only while it is known that the same embedder is still there: an answer of it is then as old as VERSION_KNOWN_S at
    most, so that no vector of other weights is ever among new ones for longer than without this.
    """

    def __init__(self, embedder: Embeddings, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._kept: OrderedDict[bytes, envelope_pb2.Embedding] = OrderedDict()
        self._version = ""
        self._confirmed_at = -VERSION_KNOWN_S

    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        """One per text, in their order."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        is_sure = self._clock.now() - self._confirmed_at < VERSION_KNOWN_S
        found: list[envelope_pb2.Embedding | None] = [self._kept.get(key) if is_sure else None for key in keys]
        missing = [place for place, embedding in enumerate(found) if embedding is None]
        if not missing:
            return found
        answers = await self._embedder.of([texts[place] for place in missing], urgent=urgent)
        for place, embedding in zip(missing, answers, strict=True):
            found[place] = embedding
            if embedding is not None:
                self._keep(keys[place], embedding)
        # What is remembered of an embedder that another has replaced meanwhile is asked for again.
        if stale := [place for place, each in enumerate(found) if each is not None and each.version != self._version]:
            again = await self._embedder.of([texts[place] for place in stale], urgent=urgent)
            for place, embedding in zip(stale, again, strict=True):
                found[place] = embedding
        return found

    def _keep(self, key: bytes, embedding: envelope_pb2.Embedding) -> None:
        if embedding.version != self._version:
            self._kept.clear()
            self._version = embedding.version
        self._confirmed_at = self._clock.now()
        self._kept[key] = embedding
        self._kept.move_to_end(key)
        while len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)
