"""What is invalidated is not given any more, whatever the store still shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from cache_entry import ENTRY, NOW
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from millpond_cache.memory_store import MemoryStore
from millpond_cache.recent import MOST_BROAD, Forgotten, Recent
from millpond_cache.store import Lesson, Which

VECTOR = np.eye(1, 4, dtype=np.float32)[0]
WHICHES = st.builds(
    Which,
    tenant=st.sampled_from(["", "acme"]),
    source_id=st.sampled_from(["", "r-1"]),
    tag=st.sampled_from(["", "sea", "land"]),
    older_than=st.just(NOW),
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


async def test_what_is_forgotten_or_answered_anew_while_vectors_are_made_anew_stays_so() -> None:
    store = MemoryStore()
    gone, old, stays = (replace(ENTRY, key=key, source_id=key) for key in ("gone", "old", "stays"))
    newer = replace(old, output="Deeper.", answered_at=NOW)
    await store.learn([Lesson(each, VECTOR) for each in (gone, old, stays)])

    async def embed(texts: Sequence[str]) -> list[tuple[str, NDArray[np.float32] | None]]:
        await store.forget(Which(source_id="gone"))
        await store.learn([Lesson(newer, VECTOR)])
        return [("e-2", VECTOR) for _ in texts]

    await store.rebuild(embed)
    assert await store.get(["gone", "old", "stays"]) == {"old": newer, "stays": replace(stays, embedder="e-2")}


@given(st.lists(WHICHES, max_size=6), st.sampled_from(["acme", "other"]), st.sampled_from(["r-1", "r-2"]))
def test_what_was_ordered_to_be_forgotten_is_hidden_and_nothing_else(
    orders: list[Which], tenant: str, source_id: str
) -> None:
    forgotten = Forgotten()
    for each in orders:
        forgotten.forget(each)
    entry = replace(ENTRY, tenant=tenant, source_id=source_id)
    # Of two orders about one request alone, the later one counts: it reaches as far and further.
    assert forgotten.hides(entry) == any(each.fits(entry) for each in orders)


def test_what_is_remembered_of_orders_is_bounded() -> None:
    forgotten = Forgotten()
    for number in range(MOST_BROAD + 1):
        forgotten.forget(Which(tag=str(number)))
    assert not forgotten.hides(replace(ENTRY, tag="0"))
    assert forgotten.hides(replace(ENTRY, tag="1"))
    assert forgotten.hides(replace(ENTRY, tag=str(MOST_BROAD)))
