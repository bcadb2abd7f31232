"""What is invalidated is not given any more, whatever the store still shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from millpond_cache.memory_store import MemoryStore
from millpond_cache.recent import SEEN_S, Forgotten, Recent
from millpond_cache.store import Entry, Lesson, Which

NOW = 1_000_000.0

ENTRY = Entry(
    key="k",
    tenant="acme",
    partition="p",
    embedder="e",
    text="how deep is the sea",
    model="small",
    output="Deep.",
    finish_reason="stop",
    input_tokens=6,
    output_tokens=2,
    source_id="r-1",
    answered_at=NOW - 10,
    expires_at=int(NOW) + 60,
    tag="sea",
)


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        (Which(), True),
        (Which(tenant="acme"), True),
        (Which(tenant="other"), False),
        (Which(source_id="r-1", tag="sea"), True),
        (Which(source_id="r-1", tag="land"), False),
        (Which(prefix="how deep"), True),
        (Which(prefix="deep"), False),
        (Which(model="large"), False),
        (Which(older_than=NOW), True),
        (Which(older_than=NOW - 10), False),
    ],
)
async def test_what_fits_in_all_that_is_said_is_forgotten(which: Which, fits: bool) -> None:
    store, recent = MemoryStore(), Recent(1e6)
    await store.learn([Lesson(ENTRY, None)])
    recent.remember(ENTRY, NOW)
    assert await store.count(which) == int(fits)
    recent.forget(which)
    assert await store.forget(which) == int(fits)
    assert (recent.get("k", NOW) is None) == fits
    assert bool(await store.get(["k"])) != fits


def test_what_was_answered_before_is_hidden_for_as_long_as_the_store_may_show_it() -> None:
    forgotten = Forgotten()
    forgotten.forget(Which(tag="sea"), NOW)
    assert forgotten.hides(ENTRY, NOW + SEEN_S)
    assert not forgotten.hides(replace(ENTRY, tag="land"), NOW)
    assert not forgotten.hides(replace(ENTRY, answered_at=NOW + 1), NOW + 2)
    assert not forgotten.hides(ENTRY, NOW + SEEN_S + 1)
