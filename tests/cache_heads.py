"""Heads and a verifier whose judgement a test can foresee: the probability is that of the verifier's number alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millpond_cache.agreement import FEATURES, AgreementHead
from millpond_cache.budget import Calibration
from millpond_cache.cacheable import PATTERNS, CacheabilityHead
from millpond_cache.decide import Heads
from millpond_cache.forest import Forest, Tree
from millpond_cache.verifier import VerifierUnavailable

EMBEDDERS = frozenset({"embedder-1", "embedder-2"})

PERSONAL = 1
"""The place in a vector that says that a question is the asker's own: the cacheability head looks at nothing else."""

THRESHOLD = 0.9

STEPS = [step / 2 for step in range(-20, 20)]
"""Logits at which the probability grows, by as much: its log odds are the logit, rounded up to a half."""

SURE, UNSURE = 4.0, 1.0
"""Logits: of probability 0.98 and 0.73."""


def heads(dimension: int = 384) -> Heads:
    weights = np.zeros(dimension, dtype=np.float32)
    weights[PERSONAL] = -100.0
    cacheability = CacheabilityHead("embedder-1", weights, np.zeros(len(PATTERNS), dtype=np.float32), 20.0, 0.5)
    logit = FEATURES.index("logit")
    steps: list[Tree] = [
        {
            "feature": [logit, -1, -1],
            "threshold": [at, 0.0, 0.0],
            "left": [1, 0, 0],
            "right": [2, 0, 0],
            "value": [0.0, 0.0, 0.5],
        }
        for at in STEPS
    ]
    return Heads(cacheability, AgreementHead(EMBEDDERS, Forest.of(steps, STEPS[0])))


CALIBRATION = Calibration([0.999, THRESHOLD, 0.5], {"all": [(2000, 0), (4000, 4), (8000, 2000)]})
"""At budgets from 0.003 on THRESHOLD; 0.999 at less."""


class KnowingVerifier:
    """Implements `Verifier`: sure of all pairs but those with a word of `doubted`. It can be away, and counts calls."""

    def __init__(self, doubted: Sequence[str] = ()) -> None:
        self.doubted = doubted
        self.away = False
        self.calls: list[Sequence[tuple[str, str]]] = []

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.calls.append(pairs)
        if self.away:
            raise VerifierUnavailable("away")
        return [UNSURE if any(word in text for word in self.doubted for text in pair) else SURE for pair in pairs]

    async def close(self) -> None: ...
