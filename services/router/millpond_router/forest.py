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

LEAVES = 16
"""Of a tree at most: a bit for each."""

ALL = np.uint16((1 << LEAVES) - 1)

FIRST = np.array([max((number & -number).bit_length() - 1, 0) for number in range(1 << LEAVES)], np.uint8)
"""The place of a number's lowest bit."""


@dataclass(frozen=True)
class Forest:
    """All trees of all labels side by side; [trees, nodes] each, nodes of a smaller tree filled up with 0.

    feature, threshold: a row goes left where its feature is at most the threshold. left, right: nodes; a leaf leads to
    itself. value: a leaf's share of the logit. owner: [trees], the label that a tree speaks for. base: [labels], the
    logits that the trees add to.
    """

    feature: NDArray[np.int16]
    threshold: Floats
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: Floats
    owner: NDArray[np.int16]
    base: Floats

    def logits(self, inputs: Floats) -> Floats:
        """inputs: [rows, inputs]. [rows, labels].

        All comparisons of all trees at once, instead of step by step from the roots: each that fails rules out the
        leaves on its left, and of those that are left the first is where the row belongs.
        Source: QuickScorer (Lucchese et al. 2015).
        """
        asked = self._questions
        fails = inputs[:, asked.feature] > asked.threshold
        possible = np.bitwise_and.reduce(np.where(fails, asked.stays, ALL), axis=2)
        leaves = FIRST[possible] + asked.first_leaf
        return asked.value.take(leaves) @ asked.owner + self.base

    def only(self, labels: Sequence[int]) -> Forest:
        """The same for some of the labels, in this order."""
        kept = [tree for label in labels for tree in np.flatnonzero(self.owner == label)]
        owner = np.array([labels.index(int(self.owner[tree])) for tree in kept], np.int16)
        arrays = (getattr(self, name)[kept] for name in ("feature", "threshold", "left", "right", "value"))
        return Forest(*arrays, owner=owner, base=self.base[list(labels)])

    @cached_property
    def _questions(self) -> Questions:
        """Raises ValueError for a tree of more than LEAVES leaves."""
        trees = [_questions_of(*each) for each in zip(self.left, self.right, strict=True)]
        shape = (len(trees), max((len(nodes) for nodes, _, _ in trees), default=0))
        # What fills a smaller tree up never fails.
        feature, threshold = np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32)
        stays = np.full(shape, ALL)
        value = np.zeros((len(trees), LEAVES), np.float32)
        for number, (nodes, bits, leaves) in enumerate(trees):
            size = len(nodes)
            feature[number, :size], threshold[number, :size] = (
                self.feature[number, nodes],
                self.threshold[number, nodes],
            )
            stays[number, :size] = bits
            value[number, : len(leaves)] = self.value[number, leaves]
        owner = np.eye(len(self.base), dtype=np.float32)[self.owner]
        return Questions(feature, threshold, stays, value.ravel(), np.arange(len(trees)) * LEAVES, owner)


@dataclass(frozen=True)
class Questions:
    """What the trees ask: [trees, questions] each. stays: bits of the leaves that stay possible where it fails.

    value: [trees · LEAVES]. first_leaf: [trees], each one's place in it. owner: [trees, labels], 1 at a tree's label.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    stays: NDArray[np.uint16]
    value: Floats
    first_leaf: NDArray[np.int64]
    owner: Floats


def _questions_of(left: NDArray[np.int16], right: NDArray[np.int16]) -> tuple[list[int], list[int], list[int]]:
    """(the nodes that ask, the bits that stay where each fails, the leaves from left to right)"""
    nodes: list[int] = []
    bits: list[int] = []
    leaves: list[int] = []

    def walk(node: int) -> None:
        if left[node] == node:
            leaves.append(node)
            return
        first, place = len(leaves), len(nodes)
        nodes.append(node)
        bits.append(0)
        walk(int(left[node]))
        bits[place] = int(ALL) & ~((1 << len(leaves)) - (1 << first))
        walk(int(right[node]))

    walk(0)
    if len(leaves) > LEAVES:
        raise ValueError(f"a tree has {len(leaves)} leaves, and at most {LEAVES} can be asked")
    return nodes, bits, leaves
