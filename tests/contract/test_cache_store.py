"""What the cache's store keeps and gives, on the memory store and on the real Milvus."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from cache_askings import TEXTS, Asking, answers_from, check, lessons_of
from numpy.typing import NDArray

from millpond_cache.memory_store import MemoryStore
from millpond_cache.milvus_store import MilvusStore
from millpond_cache.partition import MAX_TEXT_BYTES, Space
from millpond_cache.store import (
    MAX_OUTPUT_BYTES,
    Candidate,
    Entry,
    Lesson,
    Store,
    StoreRefused,
    StoreUnavailable,
    Which,
)
from millpond_cli.stack import Stack, free_port_base

HOME = Path(os.environ.get("MILLPOND_HOME") or Path(__file__).resolve().parents[2] / ".millpond")

PATIENCE_S = 60.0
"""Until something that must be seen is missed; Milvus shows an entry a second or so after it was learned."""

DIMENSION = 384

NOW = time.time()
LATER = int(NOW) + 3600


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(HOME, free_port_base(), only={"milvus"}, run=tmp_path_factory.mktemp("milvus")) as stack:
        yield stack.addresses.milvus


@pytest_asyncio.fixture(params=["memory", "milvus"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store = MemoryStore() if request.param == "memory" else MilvusStore(request.getfixturevalue("milvus"), DIMENSION)
    await store.prepare()
    yield store
    await store.close()


def fresh(word: str) -> str:
    """A name that no other test has: they share a collection."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def vector(seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return (values / np.linalg.norm(values)).astype(np.float32)


def space(tenant: str) -> Space:
    return Space(tenant, "f" * 64, "embedder-1")


def entry(of: Space, text: str = "Where to?", **fields: object) -> Entry:
    known = Entry(
        key=(uuid.uuid4().hex * 2),
        tenant=of.tenant,
        partition=of.partition,
        embedder=of.embedder,
        text=text,
        model="smollm2-135m",
        output="There.",
        finish_reason="stop",
        input_tokens=3,
        output_tokens=2,
        source_id="request-1",
        answered_at=NOW,
        expires_at=LATER,
    )
    return replace(known, **fields)  # pyright: ignore[reportArgumentType]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            pass


async def learned(store: Store, lessons: Sequence[Lesson]) -> None:
    """Learn them, and wait until all are seen by key; those with a vector by it too."""
    await store.learn(lessons)
    entries = {lesson.entry.key: lesson.entry for lesson in lessons}

    async def seen() -> bool:
        return await store.get(list(entries)) == entries and all(
            [await found(store, each.entry, each.vector) for each in lessons if each.vector is not None]
        )

    await until(seen)


async def found(store: Store, known: Entry, vector: NDArray[np.float32]) -> bool:
    place = Space(known.tenant, known.partition, known.embedder)
    (candidates,) = await store.nearest(place, [vector], 64, min(NOW, known.expires_at - 1))
    return known in [candidate.entry for candidate in candidates]


async def test_an_entry_comes_back_as_it_was(store: Store) -> None:
    lesson = Lesson(
        entry(space(fresh("acme")), 'Was heißt "größer"?\n\t\\ 😀', output="日本\u2028'x' \\u0041"), vector(1)
    )
    await learned(store, [lesson])


async def test_the_longest_texts_are_kept(store: Store) -> None:
    place = space(fresh("acme"))
    known = entry(place, "ä" * (MAX_TEXT_BYTES // 2), output="€" * (MAX_OUTPUT_BYTES // 3), source_id="😀" * 256)
    await learned(store, [Lesson(replace(known, model="😀" * 256), vector(1))])


async def test_unknown_keys_have_no_entries(store: Store) -> None:
    assert await store.get(["0" * 64]) == {}
    assert await store.get([]) == {}


async def test_nobody_is_near_in_an_empty_space(store: Store) -> None:
    assert await store.nearest(space(fresh("acme")), [vector(1), vector(2)], 4, NOW) == [[], []]


async def test_the_nearest_come_first_with_their_cosine(store: Store) -> None:
    place = space(fresh("acme"))
    vectors = [vector(seed) for seed in range(20)]
    lessons = [Lesson(entry(place, f"text {number}"), each) for number, each in enumerate(vectors)]
    await learned(store, lessons)
    asked = [vectors[3], (vectors[5] + vectors[6]).astype(np.float32)]
    answers = await store.nearest(place, asked, 4, NOW)
    for one, candidates in zip(asked, answers, strict=True):
        truth = sorted((float(one @ each / np.linalg.norm(one)) for each in vectors), reverse=True)[:4]
        assert [candidate.similarity for candidate in candidates] == pytest.approx(truth, abs=1e-3)
        for candidate in candidates:
            place_of = int(candidate.entry.text.split()[1])
            expected = one @ vectors[place_of] / np.linalg.norm(one)
            assert candidate.similarity == pytest.approx(float(expected), abs=1e-3)
    assert answers[0][0].entry == lessons[3].entry


async def test_no_entry_is_near_outside_its_space(store: Store) -> None:
    place = space(fresh("acme"))
    others = [
        place._replace(tenant=fresh("acme")),
        place._replace(partition="e" * 64),
        place._replace(embedder="embedder-2"),
        place._replace(embedder='embedder-1" or "" == "'),
        place._replace(embedder="embedder-1\\"),
    ]
    lessons = [Lesson(entry(each, each.embedder), vector(1)) for each in (place, *others)]
    await learned(store, lessons)
    for each, lesson in zip((place, *others), lessons, strict=True):
        assert entries(await store.nearest(each, [vector(1)], 64, NOW)) == [lesson.entry]


async def test_an_entry_that_has_expired_is_not_near(store: Store) -> None:
    place = space(fresh("acme"))
    lessons = [Lesson(entry(place, expires_at=LATER + more), vector(1)) for more in (0, 1, 2)]
    await learned(store, lessons)
    answers = await store.nearest(place, [vector(1)], 4, LATER + 1)
    assert entries(answers) == [lessons[2].entry]


async def test_an_entry_without_a_vector_is_near_to_nothing(store: Store) -> None:
    place = space(fresh("acme"))
    blind = entry(place._replace(embedder=""), "")
    await learned(store, [Lesson(blind, None), Lesson(entry(place), vector(1))])
    for asked in (vector(1), np.eye(1, DIMENSION, dtype=np.float32)[0]):
        assert blind not in entries(await store.nearest(place, [asked], 64, NOW))


async def test_the_later_answer_takes_the_earlier_ones_place(store: Store) -> None:
    place = space(fresh("acme"))
    first = entry(place)
    second = replace(first, output="Elsewhere.")
    await learned(store, [Lesson(first, vector(1))])
    await learned(store, [Lesson(second, vector(2))])

    async def one_is_left() -> bool:
        return entries(await store.nearest(place, [vector(1)], 64, NOW)) == [second]

    await until(one_is_left)


async def test_a_slice_has_what_an_entry_is_worth_and_what_is_dropped_is_gone(store: Store) -> None:
    place = space(fresh("acme"))
    known = [replace(entry(place), key=(first + uuid.uuid4().hex * 2)[:64]) for first in ("ab", "ab", "cd")]
    await learned(store, [Lesson(each, vector(number)) for number, each in enumerate(known)])
    keys = {each.key for each in known}

    async def sliced(prefix: str) -> set[str]:
        return {each.key for each in await store.slice(prefix)} & keys

    assert await sliced("ab") == {known[0].key, known[1].key}
    assert await sliced("") == keys
    kept = next(each for each in await store.slice("cd") if each.key == known[2].key)
    assert (kept.model, kept.input_tokens, kept.output_tokens) == ("smollm2-135m", 3, 2)
    assert kept.answered_at == NOW
    await store.drop([known[0].key])

    async def one_is_gone() -> bool:
        return await sliced("ab") == {known[1].key}

    await until(one_is_gone)
    await store.drop([])


@pytest.mark.parametrize("mark", ["", "_", "%", "\\", "\\%", '"', "'", "\n", "*", "z", "\ud7ff", "ü", "\U0010ffff"])
async def test_a_prefix_stands_for_itself_and_nothing_else(store: Store, mark: str) -> None:
    place = space(fresh("acme"))
    texts = [f"{mark}{rest}" for rest in ("", "%", "a", "\U0010ffff")]
    others = ["", "a", "b%", "zz", "_a", "%", "\ue000", "\U0010fffe"]
    known = [entry(place, text) for text in [f"begins {each}" for each in dict.fromkeys([*texts, *others])]]
    await learned(store, [Lesson(each, vector(number)) for number, each in enumerate(known)])
    which = Which(tenant=place.tenant, prefix=f"begins {mark}")
    assert await store.count(which) == sum(map(which.fits, known)) >= len(texts)


async def test_a_key_is_no_expression(store: Store) -> None:
    await learned(store, [Lesson(entry(space(fresh("acme"))), vector(1))])
    for key in ("a'] or key != '' or key in ['b", 'a"] or key != "" or key in ["b', "\\", "%"):
        assert await store.get([key]) == {}
        await store.drop([key])


async def test_learning_twice_is_as_learning_once(store: Store) -> None:
    place = space(fresh("acme"))
    lesson = Lesson(entry(place), vector(1))
    await learned(store, [lesson])
    await learned(store, [lesson])
    assert entries(await store.nearest(place, [vector(1)], 64, NOW)) == [lesson.entry]


async def test_what_has_expired_can_be_forgotten(store: Store) -> None:
    place = space(fresh("acme"))
    stays, goes = (entry(place, expires_at=end) for end in (LATER, int(NOW) - 1))
    await learned(store, [Lesson(stays, vector(1)), Lesson(goes, vector(2))])
    await store.forget_expired(NOW)

    async def only_one_stays() -> bool:
        return await store.get([stays.key, goes.key]) == {stays.key: stays}

    await until(only_one_stays)


async def test_preparing_again_keeps_what_is_there(store: Store) -> None:
    lesson = Lesson(entry(space(fresh("acme"))), vector(1))
    await learned(store, [lesson])
    await store.prepare()
    assert await store.get([lesson.entry.key]) == {lesson.entry.key: lesson.entry}


async def test_no_answer_crosses_a_place(store: Store) -> None:
    """96 places that are neighbours; every third was told an answer in one text, and all are asked in two."""
    mark = fresh("t")
    places = [
        Asking(mark + tenant, system, (), model, temperature, tokens, embedder, TEXTS[0])
        for tenant, system, model, temperature, tokens, embedder in itertools.product(
            ("", "a", "ab"),
            ("", "be brief"),
            ("small", "smaller"),
            (None, 0.0),
            (None, 16),
            ("embedder-1", "embedder-2"),
        )
    ]
    told = places[::3]
    await learned(store, lessons_of(told))
    asked = [replace(each, text=text) for each in places for text in TEXTS[:2]]
    check(told, asked, await answers_from(store, asked))


# Milvus's own troubles


async def test_a_vector_that_does_not_fit_is_refused(milvus: str) -> None:
    store = MilvusStore(milvus, DIMENSION)
    await store.prepare()
    with pytest.raises(StoreRefused):
        await store.learn([Lesson(entry(space(fresh("acme"))), vector(1)[:5])])
    with pytest.raises(StoreRefused):
        await store.learn([Lesson(entry(space(fresh("acme")), "x" * (MAX_TEXT_BYTES + 1)), vector(1))])
    await store.close()


async def test_a_collection_of_other_vectors_is_named(milvus: str) -> None:
    first = MilvusStore(milvus, DIMENSION)
    await first.prepare()
    other = MilvusStore(milvus, 768)
    known = entry(space(fresh("acme")))
    with pytest.raises(StoreUnavailable, match="not looked at"):
        await other.learn([Lesson(known, None)])
    with pytest.raises(StoreUnavailable, match=r"384 numbers.*cache\.dimension is 768"):
        await other.prepare()
    await learned(first, [Lesson(known, vector(1))])
    with pytest.raises(StoreUnavailable, match="384 numbers"):
        await other.learn([Lesson(known, None)])
    assert await first.get([known.key]) == {known.key: known}
    await first.close()
    await other.close()


async def test_another_embedders_index_is_built_beside_and_takes_over_with_all_entries(milvus: str) -> None:
    name = fresh("millpond").replace("-", "_")
    place = space(fresh("acme"))
    blue = MilvusStore(milvus, DIMENSION, collection=name)
    await blue.prepare()
    near, far, blind = entry(place, "near"), entry(place, "far"), entry(place._replace(embedder=""), "")
    await learned(blue, [Lesson(near, vector(1)), Lesson(far, vector(2)), Lesson(blind, None)])
    late = entry(place, "late")
    waiting = [Lesson(late, vector(3))]

    async def embed(texts: Sequence[str]) -> list[tuple[str, NDArray[np.float32] | None]]:
        # What is learned while the other one is built comes along.
        while waiting:
            await blue.learn([waiting.pop()])
        return [("embedder-2", None if text == "far" else np.eye(8, dtype=np.float32)[len(text)]) for text in texts]

    green = MilvusStore(milvus, 8, collection=name)
    with pytest.raises(StoreUnavailable, match="reindex"):
        await green.prepare()
    assert await green.rebuild(embed) == 4
    await green.prepare()
    everything = {each.key: each for each in (near, far, blind, late)}

    async def all_are_there() -> bool:
        return (await green.get(list(everything))).keys() == everything.keys()

    await until(all_are_there)
    found = await green.nearest(place._replace(embedder="embedder-2"), [np.eye(8, dtype=np.float32)[4]], 4, NOW)
    assert {each.text for each in entries(found)} == {"near", "late"}
    assert (await green.get([far.key]))[far.key] == replace(far, text="", embedder="")
    with pytest.raises(StoreUnavailable, match="8 numbers"):
        await blue.prepare()
    await blue.close()
    await green.close()


async def test_a_milvus_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}"
    store = MilvusStore(address, DIMENSION)
    for call in (store.prepare(), store.get(["0" * 64]), store.nearest(space("acme"), [vector(1)], 1, NOW)):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()


def entries(answers: Sequence[Sequence[Candidate]]) -> list[Entry]:
    (candidates,) = answers
    return [candidate.entry for candidate in candidates]
