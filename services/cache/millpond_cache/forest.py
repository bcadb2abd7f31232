"""A sum of small decision trees, asked all at once in numpy. Pure.

Fitting is training's (training/cache). Each tree is filled up to a whole one, so that all have their nodes in the same
places, and is folded from its leaves to its root: of two subtrees the one that the row goes to is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Tree(TypedDict):
    """Nodes by number, 0 the root. feature: -1 where the node is a leaf, which then gives `value`; else it goes to
    `left` where the feature is at most `threshold`, and to `right` otherwise.
    """

    feature: Sequence[int]
    threshold: Sequence[float]
    left: Sequence[int]
    right: Sequence[int]
    value: Sequence[float]


@dataclass(frozen=True, eq=False)
class Forest:
    """Whole trees of one depth, level by level from their roots. feature: int64 [2**depth - 1, trees]; threshold:
    float64, of the same shape; value: float64 [2**depth, trees], the leaves'. bias: what the trees add to.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    bias: float

    @classmethod
    def of(cls, trees: Sequence[Tree], bias: float) -> Forest:
        """trees: at least one."""
        depth = max(_depth(tree, 0) for tree in trees)
        nodes = (1 << depth) - 1
        feature = np.zeros((nodes, len(trees)), np.int64)
        threshold = np.full((nodes, len(trees)), np.inf)
        value = np.zeros((nodes + 1, len(trees)))

        def fill(number: int, node: int, place: int) -> None:
            tree = trees[number]
            is_leaf = tree["feature"][node] < 0
            if place >= nodes:
                value[place - nodes, number] = tree["value"][node]
                return
            if not is_leaf:
                feature[place, number], threshold[place, number] = tree["feature"][node], tree["threshold"][node]
            for side, child in enumerate(("left", "right"), 1):
                fill(number, node if is_leaf else tree[child][node], 2 * place + side)

        for number in range(len(trees)):
            fill(number, 0, 0)
        return cls(feature, threshold, value, bias)

    def log_odds(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """signs: [rows, features]. float64 [rows]."""
        return self._folded(signs[:, self.feature] <= self.threshold, None)

    def most(self, signs: NDArray[np.float64], unknown: int) -> NDArray[np.float64]:
        """The same, of each tree the largest value that it may give, whatever the sign at `unknown` is."""
        return self._folded(signs[:, self.feature] <= self.threshold, self.feature == unknown)

    def _folded(self, goes_left: NDArray[np.bool_], either: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        """either: where a node may go both ways."""
        values = self.value[None]
        first = len(self.feature) // 2
        while values.shape[1] > 1:
            level = slice(first, 2 * first + 1)
            left, right = values[:, ::2], values[:, 1::2]
            best = np.where(goes_left[:, level], left, right)
            values = best if either is None else np.where(either[level], np.maximum(left, right), best)
            first //= 2
        return self.bias + np.broadcast_to(values[:, 0].sum(axis=1), len(goes_left))


def _depth(tree: Tree, node: int) -> int:
    """At least 1."""
    if tree["feature"][node] < 0:
        return 0 if node else 1
    return 1 + max(_depth(tree, tree["left"][node]), _depth(tree, tree["right"][node]))
