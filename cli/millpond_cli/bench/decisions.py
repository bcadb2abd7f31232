"""How long a decision takes beyond the embedding.

    python -m millpond_cli.bench.decisions TEXTS.json VECTORS.npy VERSION

In a process of its own, with the settings that the environment names, as the router is. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.embedding import pack
from millpond_core.settings import load
from millpond_router import head_folder
from millpond_router import rules as rule_files
from millpond_router.brain import Brain
from millpond_router.decide import Policy, decide, policy_of
from millpond_router.heads import Reading
from millpond_router.language import LanguageDetector
from millpond_router.routing import looked_at
from millpond_router.rules import Rules
from millpond_router.settings import RouterSettings

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


@dataclass(frozen=True)
class Times:
    """Of each call, in milliseconds: on the clock, and of the processor, which other programs take no part of."""

    wall: NDArray[np.float64]
    cpu: NDArray[np.float64]

    def as_json(self, decisions: int) -> dict[str, float]:
        """decisions: of one call."""
        parts = {"": self.wall, "cpu_": self.cpu}
        return {
            f"{name}p{share}_ms": round(float(np.percentile(times / decisions, share)), 3)
            for name, times in parts.items()
            for share in (50, 99)
        }


def times(decider: Decider, texts: Sequence[str], vectors: NDArray[np.float32], version: str, batch: int) -> Times:
    """Of each call with `batch` texts."""
    embeddings = [pack(vector, version, 1) for vector in vectors]
    # The first calls compile patterns and fill caches.
    for _ in range(3):
        decider.decide(texts[:batch], embeddings[:batch])
    wall: list[float] = []
    cpu: list[float] = []
    for first in range(0, len(texts) - batch + 1, batch):
        part = slice(first, first + batch)
        began, began_cpu = time.perf_counter(), time.thread_time()
        decider.decide(texts[part], embeddings[part])
        cpu.append((time.thread_time() - began_cpu) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
    return Times(np.array(wall), np.array(cpu))


def main(texts_file: str, vectors_file: str, version: str) -> None:
    texts, vectors = json.loads(Path(texts_file).read_bytes()), np.load(vectors_file)
    settings = load(RouterSettings, "millpond")
    policy = policy_of(settings, settings.router.quality)
    rules = rule_files.load(settings.router.rules or rule_files.SHIPPED, policy.targets)
    resembled = {target.resembles for target in policy.models if target.resembles}
    brain = Brain(settings.router.heads or head_folder.SHIPPED, models=resembled)
    brain.look()
    decider = Decider(rules, policy, brain)
    figures = {
        "heads": brain.heads.version if brain.heads else None,
        "alone": times(decider, texts, vectors, version, 1).as_json(1),
        f"each_of_{BATCH}": times(decider, texts, vectors, version, BATCH).as_json(BATCH),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
