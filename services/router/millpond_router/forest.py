"""Boosted trees, asked in numpy: what rises and falls in steps, where a network sees slopes. Pure.

Fitting is training's (training/router); the trees are plain arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from millpond_router.network import Floats


@dataclass(frozen=True)
class Forest:
    """All trees of all labels side by side; [trees, nodes] each, nodes of a smaller tree filled up with 0.

    feature, threshold: a row goes left where its feature is at most the threshold. left, right: nodes; a leaf leads to
    itself. value: a leaf's share of the logit. owner: [trees], the label that a tree speaks for. base: [labels], the
    logits that the trees add to. depth: steps from the root to the deepest leaf.
    """

    feature: NDArray[np.int16]
    threshold: Floats
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: Floats
    owner: NDArray[np.int16]
    base: Floats
    depth: int

    def logits(self, inputs: Floats) -> Floats:
        """inputs: [rows, inputs]. [rows, labels]."""
        feature, threshold, left, right, value = self._flat
        rows = np.arange(len(inputs))[:, None]
        nodes = np.tile(np.arange(len(self.owner)) * self.feature.shape[1], (len(inputs), 1))
        for _ in range(self.depth):
            goes_left = inputs[rows, feature.take(nodes)] <= threshold.take(nodes)
            nodes = np.where(goes_left, left.take(nodes), right.take(nodes))
        leaves = value.take(nodes)
        logits = np.tile(self.base, (len(inputs), 1))
        for label in range(len(self.base)):
            logits[:, label] += leaves[:, self.owner == label].sum(axis=1)
        return logits

    def only(self, labels: Sequence[int]) -> Forest:
        """The same for some of the labels, in this order."""
        kept = [tree for label in labels for tree in np.flatnonzero(self.owner == label)]
        owner = np.array([labels.index(int(self.owner[tree])) for tree in kept], np.int16)
        arrays = (getattr(self, name)[kept] for name in ("feature", "threshold", "left", "right", "value"))
        return Forest(*arrays, owner=owner, base=self.base[list(labels)], depth=self.depth)

    @cached_property
    def _flat(self) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], NDArray[np.int64], Floats]:
        """All nodes in one row each, children by their place in it: looked up several times as fast."""
        first = (np.arange(len(self.owner)) * self.feature.shape[1])[:, None]
        return (
            self.feature.ravel().astype(np.int64),
            self.threshold.ravel(),
            (self.left + first).ravel(),
            (self.right + first).ravel(),
            self.value.ravel(),
        )
