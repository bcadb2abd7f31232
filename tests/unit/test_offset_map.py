"""An offset map forgets nothing: what it says to commit is what a later map goes on from."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond_core.processor import OffsetMap
from millpond_core.processor.offset_map import METADATA_CHARACTERS

GAPS = st.lists(st.integers(1, 3), min_size=1, max_size=40)
"""Distances between the offsets of a partition's records: transaction markers lie between."""


def offsets_of(gaps: list[int]) -> list[int]:
    offsets = [100]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    return offsets


@given(GAPS, st.data())
@settings(max_examples=300)
def test_a_crash_at_any_moment_repeats_what_was_not_finished_and_nothing_else(
    gaps: list[int], data: st.DataObject
) -> None:
    """Three lives: each takes some records, a few before their turn, finishes some, commits and dies.

    Every record is finished once.
    """
    offsets = offsets_of(gaps)
    finished: set[int] = set()
    position = (offsets[0], "")
    for _ in range(3):
        life = OffsetMap(*position)
        read = [offset for offset in offsets if offset >= position[0]]
        read = read[: data.draw(st.integers(0, len(read)))]
        ahead = [
            offset
            for offset, following in zip(offsets, [*offsets[1:], offsets[-1] + 1], strict=True)
            if data.draw(st.booleans()) and life.take_ahead(offset, following)
        ]
        taken = ahead + [offset for offset in read if life.take(offset)]
        assert len(set(taken)) == len(taken)
        assert life.unfinished == len(taken)
        assert not finished & set(taken)
        assert set(read) - set(taken) <= finished
        done = data.draw(st.sets(st.sampled_from(taken))) if taken else set()
        position = life.position(done)
        life.finish(done)
        assert life.position() == position
        finished |= done
    last = OffsetMap(*position)
    rest = {offset for offset in offsets if offset >= position[0] and last.take(offset)}
    assert rest | finished == set(offsets)
    assert not rest & finished


@given(GAPS)
def test_all_finished_is_a_plain_position(gaps: list[int]) -> None:
    offsets = offsets_of(gaps)
    offset_map = OffsetMap(offsets[0])
    for offset in offsets:
        assert offset_map.take(offset)
    assert offset_map.position(offsets) == (offsets[-1] + 1, "")
    offset_map.finish(offsets)
    assert (offset_map.unfinished, offset_map.oldest(), offset_map.blocked) == (0, [], False)


def test_a_position_is_not_moved_by_asking_for_it() -> None:
    offset_map = OffsetMap(5)
    offset_map.take(5)
    assert offset_map.position({5}) == (6, "")
    assert offset_map.position() == (5, "")


def test_the_position_passes_what_was_finished_in_an_earlier_life() -> None:
    """It is at the end once everything is finished, also where no record is left whose end would move it."""
    offset_map = OffsetMap(0, "2+3")
    for offset in (0, 1):
        offset_map.take(offset)
    assert offset_map.position({0, 1}) == (5, "")


def test_markers_between_finished_records_make_no_new_run() -> None:
    offset_map = OffsetMap(0)
    for offset in (0, 2, 4, 6, 8):
        offset_map.take(offset)
    assert offset_map.position({2, 4, 6}) == (0, "2+6")


def test_what_holds_others_back_is_named() -> None:
    offset_map = OffsetMap(0)
    for offset in range(4):
        offset_map.take(offset)
    assert not offset_map.blocked
    offset_map.finish({1, 3})
    assert (offset_map.oldest(5), offset_map.blocked, offset_map.unfinished) == ([0, 2], True, 2)


def test_fullness_warns_before_the_broker_refuses() -> None:
    offset_map = OffsetMap(0)
    for offset in range(4000):
        offset_map.take(offset)
        if offset % 2:
            offset_map.position({offset})
            offset_map.finish({offset})
        if offset_map.fullness > 0.75:
            break
    assert 3000 < len(offset_map.position()[1]) < 4095


@pytest.mark.parametrize("metadata", ["x", "1+", "1+2,", "-1+2", "1+2;3+4", "١+٢"])
def test_another_programs_metadata_is_refused(metadata: str) -> None:
    with pytest.raises(ValueError, match="not an offset map"):
        OffsetMap(0, metadata)


def test_an_offset_that_goes_back_is_refused() -> None:
    offset_map = OffsetMap(0)
    offset_map.take(3)
    with pytest.raises(ValueError, match="came after"):
        offset_map.take(2)


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=900), st.integers(1, 200), st.floats(0.1, 0.9))
def test_what_there_is_room_for_never_makes_it_fuller_than_that(gaps: list[int], at_once: int, fullness: float) -> None:
    offsets = OffsetMap(0)
    places = list(itertools.accumulate(gap + 1 for gap in gaps))
    while taken := [places.pop(0) for _ in range(min(offsets.room(fullness), at_once, len(places)))]:
        for place in taken:
            assert offsets.take_ahead(place, place + 1)
        for place in taken:
            offsets.finish([place])
            _, metadata = offsets.position()
            assert len(metadata) <= fullness * METADATA_CHARACTERS
