"""Trees asked all at once say what one gets who walks each of them from its root."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.forest import LEAVES, Forest

INPUTS = 3

Tree = list[tuple[int, float, int, int, float]]
"""Nodes: feature, threshold, left, right, value; a leaf leads to itself."""


@st.composite
def trees(draw: st.DrawFn, most: int = LEAVES) -> Tree:
    """A tree of any shape, of one to `most` leaves."""
    nodes: Tree = []

    def grow(leaves: int) -> int:
        place = len(nodes)
        nodes.append((0, 0.0, place, place, draw(st.floats(-1, 1, width=32))))
        if leaves > 1:
            on_the_left = draw(st.integers(1, leaves - 1))
            feature, threshold = draw(st.integers(0, INPUTS - 1)), draw(st.sampled_from([-0.5, 0.0, 0.5]))
            left, right = grow(on_the_left), grow(leaves - on_the_left)
            nodes[place] = (feature, threshold, left, right, 0.0)
        return place

    grow(draw(st.integers(1, most)))
    return nodes


def forest_of(grown: list[Tree], owners: list[int]) -> Forest:
    size = max(len(tree) for tree in grown)
    filled = [[*tree, *[(0, 0.0, 0, 0, 0.0)] * (size - len(tree))] for tree in grown]
    feature, threshold, left, right, value = (
        np.array([[node[part] for node in tree] for tree in filled]) for part in range(5)
    )
    return Forest(
        feature=feature.astype(np.int16),
        threshold=threshold.astype(np.float32),
        left=left.astype(np.int16),
        right=right.astype(np.int16),
        value=value.astype(np.float32),
        owner=np.array(owners, np.int16),
        base=np.array([0.25, -0.25], np.float32),
    )


def walked(tree: Tree, row: np.ndarray) -> float:
    place = 0
    while tree[place][2] != place:
        feature, threshold, left, right, _ = tree[place]
        place = left if row[feature] <= threshold else right
    return tree[place][4]


ROWS = st.lists(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=INPUTS, max_size=INPUTS),
    min_size=1,
    max_size=4,
)


@given(st.lists(st.tuples(trees(), st.integers(0, 1)), min_size=1, max_size=5), ROWS)
def test_asked_at_once_they_say_what_one_gets_who_walks_them(
    grown: list[tuple[Tree, int]], given_rows: list[list[float]]
) -> None:
    rows = np.array(given_rows, np.float32)
    forest = forest_of([tree for tree, _ in grown], [owner for _, owner in grown])
    expected = np.tile(forest.base, (len(rows), 1)).astype(np.float64)
    for tree, owner in grown:
        expected[:, owner] += [walked(tree, row) for row in rows]
    assert forest.logits(rows) == pytest.approx(expected, abs=1e-4)
    assert forest.only([1, 0]).logits(rows) == pytest.approx(expected[:, ::-1], abs=1e-4)


def test_a_tree_of_too_many_leaves_is_refused() -> None:
    chain: Tree = []
    for number in range(LEAVES):
        chain += [
            (0, float(number), 2 * number + 1, 2 * number + 2, 0.0),
            (0, 0.0, 2 * number + 1, 2 * number + 1, 0.0),
        ]
    chain.append((0, 0.0, 2 * LEAVES, 2 * LEAVES, 0.0))
    with pytest.raises(ValueError, match=f"has {LEAVES + 1} leaves"):
        forest_of([chain], [0]).logits(np.zeros((1, INPUTS), np.float32))
