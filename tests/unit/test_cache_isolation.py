"""No answer crosses a tenant, a system prompt, a model, its parameters or an embedder version."""

from __future__ import annotations

import asyncio

from cache_askings import TEXTS, Asking, answers_from, check, lessons_of
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond_cache.memory_store import MemoryStore

# Few values, one the beginning of another, so that many askings are neighbours.
ASKINGS = st.builds(
    Asking,
    tenant=st.sampled_from(["a", "ab", "a.b"]),
    system=st.sampled_from(["", "b", "be brief", "be", TEXTS[0]]),
    history=st.sampled_from([(), ("b",), ("b", "e"), ("be",), (TEXTS[0], "deep")]),
    model=st.sampled_from(["s", "small", "b"]),
    temperature=st.sampled_from([None, 0.0, 0.5]),
    max_tokens=st.sampled_from([None, 1, 16]),
    embedder=st.sampled_from(["embedder-1", "embedder-2"]),
    text=st.sampled_from(TEXTS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ASKINGS, min_size=1, max_size=40), st.lists(ASKINGS, max_size=40))
def test_an_answer_is_given_in_its_own_place_and_in_no_other(told: list[Asking], others: list[Asking]) -> None:
    async def answers() -> list[str | None]:
        store = MemoryStore()
        await store.learn(lessons_of(told))
        return await answers_from(store, asked)

    asked = [*told, *others]
    check(told, asked, asyncio.run(answers()))
