"""A row waits for another one exactly where that reads enough of its prompt, and never for one that is gone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "generator" / "1"))

from alike import SHARED_PART, SHARED_TOKENS, Reading

PROMPTS = st.tuples(st.integers(0, 2), st.integers(0, 150), st.integers(0, 150)).map(
    lambda made: [made[0]] * made[1] + list(range(9, 9 + made[2]))
)


def alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens with which both begin."""
    return next((at for at in range(min(len(one), len(other))) if one[at] != other[at]), min(len(one), len(other)))


@given(st.lists(PROMPTS, min_size=1, max_size=8), st.sets(st.integers(0, 7)), PROMPTS)
def test_a_row_waits_only_for_one_that_reads_half_of_its_prompt(
    prompts: Sequence[Sequence[int]], gone: set[int], prompt: Sequence[int]
) -> None:
    reading = Reading[str]()
    for number, each in enumerate(prompts):
        reading.begin(number, each)
    for number in gone:
        reading.end(number)
    if reading.waits(prompt, "row"):
        (leader,) = [number for number in range(len(prompts)) if reading.end(number) == ["row"]]
        assert leader not in gone
        assert alike(prompts[leader], prompt) >= max(SHARED_TOKENS, SHARED_PART * len(prompt))
    assert not [*reading.waiting]


@given(PROMPTS, PROMPTS)
def test_of_two_that_begin_alike_the_second_waits_until_the_first_has_read(
    one: Sequence[int], other: Sequence[int]
) -> None:
    reading = Reading[str]()
    reading.begin(1, one)
    waits = alike(one, other) >= max(SHARED_TOKENS, SHARED_PART * len(other))
    assert reading.waits(other, "row") == waits
    assert list(reading.end(1)) == ["row"] * waits
    assert not reading.waits(other, "row")


@given(st.lists(PROMPTS, max_size=8), st.permutations(range(8)))
def test_whoever_waits_is_told_once(prompts: Sequence[Sequence[int]], order: Sequence[int]) -> None:
    reading = Reading[int]()
    begun = set[int]()
    for number, each in enumerate(prompts):
        if not reading.waits(each, number):
            reading.begin(number, each)
            begun.add(number)
    kept = sorted(reading.waiting)
    assert begun.isdisjoint(kept)
    assert sorted(row for number in order if number in begun for row in reading.end(number)) == kept
    assert begun | {*kept} == {*range(len(prompts))}
