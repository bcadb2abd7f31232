"""Where there is too much, what saves least goes first: by its cost and its use, and not by its age alone."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cache.house import ROOM, keep_within
from millpond_cache.key_slices import SLICE, slices
from millpond_cache.memory_store import MemoryStore
from millpond_cache.store import Entry, Kept, Lesson
from millpond_cache.worth import Uses, least, worth
from millpond_core.cost import Price

NOW = 1_800_000_000.0
PRICES = {"small": Price(Decimal("0.05"), Decimal("0.05")), "large": Price(Decimal(10), Decimal(10))}

KEPT = st.builds(
    Kept,
    key=st.uuids().map(str),
    model=st.sampled_from(["small", "large", "gone"]),
    input_tokens=st.integers(0, 1000),
    output_tokens=st.integers(0, 1000),
    answered_at=st.floats(NOW - 1e6, NOW),
)


def kept(key: str = "k", *, model: str = "small", tokens: int = 100, age_s: float = 60) -> Kept:
    return Kept(key, model, tokens, tokens, NOW - age_s)


@given(KEPT, st.integers(0, 100))
def test_more_use_is_never_worth_less_nor_is_more_age_worth_more(each: Kept, uses: int) -> None:
    now = worth(each, uses, PRICES, NOW)
    assert now <= worth(each, uses + 1, PRICES, NOW)
    assert now >= worth(each, uses, PRICES, NOW + 3600)
    assert now >= 0


def test_a_costly_answer_outlives_a_cheap_one_and_an_old_one_that_is_used_a_fresh_one_that_is_not() -> None:
    uses = Uses()
    for _ in range(50):
        uses.note("used")
    entries = [
        kept("used", age_s=36_000),
        kept("fresh"),
        kept("costly", model="large"),
        kept("old", age_s=36_000),
        kept("gone", model="of no configuration"),
    ]
    assert least(entries, 1, uses, PRICES, NOW) == ["gone", "old", "fresh", "used", "costly"]


@given(st.lists(KEPT, max_size=50), st.floats(0, 1))
def test_what_goes_is_the_share_that_was_asked_for_and_worth_no_more_than_what_stays(
    entries: list[Kept], share: float
) -> None:
    uses = Uses()
    gone = set(least(entries, share, uses, PRICES, NOW))
    assert len(entries) * share <= len(gone) <= len(entries) * share + 1
    values = {each.key: worth(each, 0, PRICES, NOW) for each in entries}
    left = [values[key] for key in values if key not in gone]
    assert max((values[key] for key in gone), default=0) <= min(left, default=float("inf"))


def test_what_is_counted_is_bounded_and_what_was_used_longest_ago_is_forgotten() -> None:
    uses = Uses(most=2)
    for key in ("a", "b", "a", "c"):
        uses.note(key)
    assert [uses.of(key) for key in ("a", "b", "c")] == [2, 0, 1]


@pytest.mark.parametrize(("entries", "most"), [(6000, 1000), (900, 1000), (1000, 1000), (30, 20), (1, 1)])
async def test_the_store_is_kept_within_its_capacity_and_what_is_used_stays(entries: int, most: int) -> None:
    store, uses = MemoryStore(), Uses()
    lessons = [Lesson(entry(number), None) for number in range(entries)]
    await store.learn(lessons)
    used = [lesson.entry.key for lesson in lessons[: most // 10]]
    for key in used:
        uses.note(key)
    gone = await keep_within(most, store, uses, PRICES, NOW)
    left = len(await store.get([lesson.entry.key for lesson in lessons]))
    assert left == entries - gone
    assert left <= most
    # Each slice gives one more than its share at most.
    assert left >= min(entries, most * (1 - ROOM) - len(slices(entries)))
    assert len(await store.get(used)) == len(used)


@given(st.integers(0, 2_000_000))
def test_slices_share_out_every_key_and_are_small(entries: int) -> None:
    prefixes = slices(entries)
    key = hashlib.sha256(str(entries).encode()).hexdigest()
    assert sum(key.startswith(each) for each in prefixes) == 1
    assert entries / len(prefixes) <= SLICE or len(prefixes) == 256


def entry(number: int) -> Entry:
    return Entry(
        key=hashlib.sha256(str(number).encode()).hexdigest(),
        tenant="acme",
        partition="p",
        embedder="",
        text="",
        model="small",
        output="Deep.",
        finish_reason="stop",
        input_tokens=6,
        output_tokens=2,
        source_id=str(number),
        answered_at=NOW - 60,
        expires_at=int(NOW) + 60,
    )
