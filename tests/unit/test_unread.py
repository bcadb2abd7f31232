"""The table of what waits says of each record what its header said, and forgets what was taken."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from millpond_core.envelope import BATCH_HEADER, DEADLINE_HEADER, TENANT_HEADER, TIER_HEADER, TOKENS_HEADER, described
from millpond_core.processor import NEVER, Partition, Record, Unread, mark_of
from millpond_core.processor.unread import ROW

KEYS = st.integers(0, 20).map(lambda number: f"t/{number}".encode())
RECORDS = st.lists(st.tuples(st.integers(1, 3), KEYS, st.integers(0, 100)), max_size=60)


def record(offset: int, key: bytes, deadline_ms: int) -> Record:
    return Record(Partition("t", 0), offset, 0, key, b"", ((DEADLINE_HEADER, str(deadline_ms).encode()),))


def table_of(records: list[Record], data: st.DataObject) -> Unread:
    """Appended in chunks, some of them twice."""
    unread = Unread()
    rest = records
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        rows = np.array([described(each) for each in rest[:count]], ROW)
        unread.append(rows)
        if data.draw(st.booleans()):
            unread.append(rows)
        rest = rest[count:]
    return unread


@given(RECORDS, st.integers(0, 200), st.integers(0, 100), st.sets(KEYS), st.data())
def test_what_it_finds_is_what_a_look_at_each_record_finds(
    given_: list[tuple[int, bytes, int]], taken: int, now_ms: int, keys: set[bytes], data: st.DataObject
) -> None:
    records: list[Record] = []
    offset = 0
    for gap, key, deadline_ms in given_:
        offset += gap
        records.append(record(offset, key, deadline_ms))
    unread = table_of(records, data)
    unread.drop_before(taken)
    left = [each for each in records if each.offset >= taken]
    due = {each.offset for each in left if int(each.headers[0][1]) <= now_ms}
    assert len(unread) == len(left)
    assert unread.overdue(now_ms) == sorted(due)
    assert unread.having("key", keys) == [each.offset for each in left if each.key in keys]
    for each, after in itertools.pairwise(left):
        assert unread.following(each.offset) == after.offset
    for offset in due:
        unread.forget(offset)
    assert unread.overdue(now_ms) == []
    assert unread.having("key", keys) == [each.offset for each in left if each.key in keys and each.offset not in due]


def test_a_row_is_what_the_headers_say() -> None:
    told = ((BATCH_HEADER, b"march"), (DEADLINE_HEADER, b"7"))
    headers = (*told, (TENANT_HEADER, b"acme"), (TIER_HEADER, b"overnight"), (TOKENS_HEADER, b"9"))
    row = described(Record(Partition("t", 0), 5, 0, b"acme/a", b"", headers))
    assert row == (5, 7, mark_of(b"acme/a"), mark_of(b"acme"), mark_of(b""), mark_of(b"acme/march"), 9, 3)


@given(st.dictionaries(st.sampled_from([DEADLINE_HEADER, TIER_HEADER, TOKENS_HEADER]), st.binary()))
def test_headers_that_make_no_sense_make_a_row_all_the_same(headers: dict[str, bytes]) -> None:
    row = described(Record(Partition("t", 0), 5, 0, None, None, tuple(headers.items())))
    assert np.array([row], ROW)["deadline_ms"][0] <= NEVER


@given(st.lists(st.integers(0, 3), max_size=30), st.sets(st.integers(0, 29)))
def test_a_tier_overtakes_only_others_and_what_was_taken_is_not_found_again(tiers: list[int], taken: set[int]) -> None:
    unread = Unread()
    unread.append(np.array([(offset, NEVER, 0, 0, 0, 0, 0, tier) for offset, tier in enumerate(tiers)], ROW))
    for offset in taken:
        unread.forget(offset)
    left = [0 if offset in taken else tier for offset, tier in enumerate(tiers)]
    first_other = next((offset for offset, tier in enumerate(left) if tier > 1), len(left))
    assert unread.overtaking(1) == [offset for offset, tier in enumerate(left) if tier == 1 and offset > first_other]
