"""A text that came before is not embedded again, but never gets the vector of an embedder that is gone."""

from __future__ import annotations

from collections.abc import Sequence

from millpond.v1 import envelope_pb2
from millpond_core.clock import ManualClock
from millpond_core.embedder import VERSION_KNOWN_S
from millpond_router.remembered import REMEMBERED, RememberedEmbeddings


class Embedder:
    """Says which version it is, and is away without one."""

    def __init__(self) -> None:
        self.version: str | None = "one"
        self.asked: list[str] = []

    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        self.asked += texts
        if self.version is None:
            return [None] * len(texts)
        return [envelope_pb2.Embedding(vector=text.encode()[:8], version=self.version) for text in texts]


async def vectors_of(embeddings: RememberedEmbeddings, *texts: str) -> list[tuple[bytes, str] | None]:
    found = await embeddings.of(texts, urgent=False)
    return [None if each is None else (each.vector, each.version) for each in found]


async def test_a_text_that_came_before_is_not_asked_for_again() -> None:
    embedder, clock = Embedder(), ManualClock(100)
    embeddings = RememberedEmbeddings(embedder, clock)
    assert await vectors_of(embeddings, "a", "b") == [(b"a", "one"), (b"b", "one")]
    assert await vectors_of(embeddings, "b", "c", "a") == [(b"b", "one"), (b"c", "one"), (b"a", "one")]
    assert embedder.asked == ["a", "b", "c"]


async def test_after_a_while_the_embedder_is_asked_whether_it_is_the_same() -> None:
    embedder, clock = Embedder(), ManualClock(100)
    embeddings = RememberedEmbeddings(embedder, clock)
    await vectors_of(embeddings, "a")
    clock.advance(VERSION_KNOWN_S)
    embedder.version = "two"
    assert await vectors_of(embeddings, "a") == [(b"a", "two")]


async def test_no_batch_holds_vectors_of_two_embedders() -> None:
    embedder, clock = Embedder(), ManualClock(100)
    embeddings = RememberedEmbeddings(embedder, clock)
    await vectors_of(embeddings, "a")
    embedder.version = "two"
    assert await vectors_of(embeddings, "a", "b") == [(b"a", "two"), (b"b", "two")]


async def test_an_embedder_that_is_away_leaves_nothing_behind() -> None:
    embedder, clock = Embedder(), ManualClock(100)
    embeddings = RememberedEmbeddings(embedder, clock)
    embedder.version = None
    assert await vectors_of(embeddings, "a") == [None]
    embedder.version = "one"
    assert await vectors_of(embeddings, "a") == [(b"a", "one")]


async def test_memory_is_bounded() -> None:
    embedder, clock = Embedder(), ManualClock(100)
    embeddings = RememberedEmbeddings(embedder, clock)
    await vectors_of(embeddings, *(str(number) for number in range(REMEMBERED + 1)))
    embedder.asked.clear()
    await vectors_of(embeddings, str(REMEMBERED), "0")
    assert embedder.asked == ["0"]
