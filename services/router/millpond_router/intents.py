"""Intents of one's own, learned from labelled texts: a network of their own on what the heads see. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from millpond_router.heads import Inputs, Seen
from millpond_router.network import Fitting, Floats, Network, Target, entropy, fit, softmax

FITTING = Fitting(
    hidden=512,
    members=2,
    epochs=30,
    rows=256,
    rate=1.5e-3,
    decay=1e-2,
    dropped=(0.2, 0.5),
    smoothing=0.05,
)
"""Chosen on a held-back part of BANKING77's training set."""


@dataclass(frozen=True)
class Chances:
    """chances: [texts, labels]. strangeness: [texts], the higher the less any label stands out."""

    labels: Sequence[str]
    chances: Floats
    strangeness: Floats


@dataclass(frozen=True)
class Intents:
    labels: Sequence[str]
    inputs: Inputs
    network: Network

    def says(self, seen: Seen) -> Chances:
        (logits,) = self.network.logits(self.inputs.of_network(seen))
        chances = softmax(logits)
        return Chances(self.labels, chances, entropy(chances))


def fit_intents(
    inputs: Inputs,
    vectors: Floats,
    texts: Sequence[str],
    labels: Sequence[str],
    say: Callable[[str], None] | None = None,
) -> Intents:
    """vectors: [texts, dimension], by the embedder that the inputs are for."""
    names = tuple(sorted(set(labels)))
    wanted = np.eye(len(names), dtype=np.float32)[[names.index(label) for label in labels]]
    dense = inputs.of_network(inputs.seen(vectors, texts))
    return Intents(names, inputs, fit(dense, [Target(wanted, one_of=True)], FITTING, say))
