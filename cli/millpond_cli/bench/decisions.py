"""How long a decision takes beyond the embedding, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.embedding import pack
from millpond_router.brain import Brain
from millpond_router.decide import decide
from millpond_router.heads import Reading
from millpond_router.language import LanguageDetector
from millpond_router.routing import looked_at

if TYPE_CHECKING:
    from millpond_router.decide import Policy
    from millpond_router.rules import Rules

BATCH = 64
"""Requests that the router takes together at most, by default."""


class Decider:
    """As the router decides what is accepted and embedded: language, heads, rules, options, explanation."""

    def __init__(self, rules: Rules, policy: Policy, brain: Brain) -> None:
        self._rules, self._policy, self._brain = rules, policy, brain
        self._language = LanguageDetector()

    def decide(self, texts: Sequence[str], embeddings: Sequence[envelope_pb2.Embedding]) -> list[str]:
        """The chosen models' names."""
        readings = self._brain.readings(texts, embeddings)
        return [self._one(*each) for each in zip(texts, embeddings, readings, strict=True)]

    def _one(self, text: str, embedding: envelope_pb2.Embedding, reading: Reading | None) -> str:
        request = request_pb2.Request(
            tenant="default", model="auto", messages=[request_pb2.Message(role="user", content=text)]
        )
        tier = request_pb2.TIER_UNSPECIFIED
        features = looked_at(request, tier, embedding, reading, self._rules, self._language)
        return decide(features, self._rules, self._policy, 0.0).model


def times_ms(
    decider: Decider, texts: Sequence[str], vectors: NDArray[np.float32], version: str, batch: int
) -> NDArray[np.float64]:
    """Of each call with `batch` texts, in milliseconds."""
    embeddings = [pack(vector, version, 1) for vector in vectors]
    # The first calls compile patterns and fill caches.
    for _ in range(3):
        decider.decide(texts[:batch], embeddings[:batch])
    times: list[float] = []
    for first in range(0, len(texts) - batch + 1, batch):
        part = slice(first, first + batch)
        began = time.perf_counter()
        decider.decide(texts[part], embeddings[part])
        times.append((time.perf_counter() - began) * 1000)
    return np.array(times)
