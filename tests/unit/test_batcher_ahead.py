"""What is fetched before its turn is what a plan over everything would send next, as far as there is room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from millpond_batcher.ahead import EARLIER_MS, GRID_S, ahead, demand
from millpond_core.processor.unread import NEVER, ROW

NOW = 1_800_000_000

TENANTS = (7, 11, 1 << 63)
"""Their marks."""

DEADLINES = st.integers(0, 20).map(lambda step: NOW * 1000 + step * EARLIER_MS // 2)

Asked = Sequence[tuple[int, int]]
"""Of each request: its tenant and its deadline."""

UNREAD = st.lists(st.tuples(st.sampled_from(TENANTS), DEADLINES), max_size=40)
HANDS = st.dictionaries(st.sampled_from(TENANTS), st.lists(DEADLINES, min_size=1, max_size=12).map(sorted))


def rows_of(asked: Asked, tokens: int = 100) -> NDArray[np.void]:
    rows = np.zeros(len(asked), ROW)
    rows["offset"] = np.arange(len(asked)) * 3 + 5
    rows["tenant"] = [tenant for tenant, _ in asked]
    rows["deadline_ms"] = [deadline for _, deadline in asked]
    rows["tokens"] = tokens
    return rows


def fetched(asked: Asked, hand: Mapping[int, Sequence[int]], most: int, room: int) -> set[int]:
    """Their places."""
    offsets = ahead(rows_of(asked), hand, most=most, room=room).tolist()
    assert offsets == sorted(set(offsets))
    assert len(offsets) <= max(room, 0)
    return {(offset - 5) // 3 for offset in offsets}


@given(UNREAD, HANDS, st.integers(1, 8), st.integers(-1, 50))
def test_of_a_tenants_requests_none_is_fetched_before_an_earlier_one(
    asked: Asked, hand: Mapping[int, Sequence[int]], most: int, room: int
) -> None:
    found = fetched(asked, hand, most, room)
    for place in found:
        tenant, deadline = asked[place]
        earlier = {other for other, each in enumerate(asked) if each[0] == tenant and each[1] < deadline}
        assert earlier <= found


@given(UNREAD, HANDS, st.integers(1, 8))
def test_with_room_a_tenants_first_requests_are_in_hand_afterwards_and_no_others_are_fetched(
    asked: Asked, hand: Mapping[int, Sequence[int]], most: int
) -> None:
    found = fetched(asked, hand, most, len(asked))
    for tenant in TENANTS:
        had = [*hand.get(tenant, []), *(asked[place][1] for place in found if asked[place][0] == tenant)]
        for place, (whose, deadline) in enumerate(asked):
            before = sum(each <= deadline + EARLIER_MS for each in had)
            if whose == tenant and place not in found:
                assert before >= most
        fresh = sorted(asked[place][1] for place in found if asked[place][0] == tenant)
        for before, deadline in enumerate(fresh):
            assert before + sum(each <= deadline + EARLIER_MS for each in hand.get(tenant, [])) < most


@given(UNREAD, HANDS, st.integers(1, 8), st.integers(1, 50))
def test_nobody_has_a_second_one_fetched_while_another_has_none_in_hand(
    asked: Asked, hand: Mapping[int, Sequence[int]], most: int, room: int
) -> None:
    found = fetched(asked, hand, most, room)
    count: dict[int, int] = defaultdict(int)
    for place in found:
        count[asked[place][0]] += 1
    for tenant in {whose for whose, _ in asked} - set(hand):
        if not count[tenant]:
            assert all(number <= 1 for number in count.values())


@given(st.integers(1, 60), st.integers(1, 8))
def test_what_came_in_the_order_of_its_deadlines_is_left_to_its_turn(count: int, most: int) -> None:
    deadlines = [NOW * 1000 + number for number in range(most + count)]
    asked = [(7, deadline) for deadline in deadlines[most:]]
    assert not fetched(asked, {7: deadlines[:most]}, most, 100)


def test_a_quiet_tenants_request_behind_a_flood_is_fetched_and_nothing_else_is() -> None:
    flood = [(7, NOW * 1000 + number) for number in range(5000)]
    hand = {7: [NOW * 1000 - 60_000] * 64}
    assert fetched([*flood, (11, NOW * 1000 + 9000)], hand, 64, 200) == {5000}


def test_what_was_taken_before_is_not_fetched_again() -> None:
    assert not fetched([(7, NEVER)], {}, 4, 10)


@given(UNREAD, st.integers(-100, 100_000))
def test_no_work_is_left_out_of_what_is_due_and_none_is_said_to_be_due_late(asked: Asked, later_s: int) -> None:
    rows = rows_of(asked)
    rows["deadline_ms"] += later_s * 1000
    due = demand(rows, NOW)
    assert sum(tokens for _, tokens in due) == rows["tokens"].sum()
    assert [at_s for at_s, _ in due] == sorted(at_s for at_s, _ in due)
    last_s = NOW + 24 * 3600
    for at_ms in rows["deadline_ms"]:
        said = sum(tokens for at_s, tokens in due if at_s <= max(at_ms / 1000, NOW))
        assert said >= rows["tokens"][rows["deadline_ms"] <= at_ms].sum()
    for at_s, _ in due:
        assert NOW - GRID_S < at_s <= last_s
