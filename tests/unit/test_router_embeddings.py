"""Each text has its own embedding, or none where the embedder has no time for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2
from millpond_core.embedder import Embedder
from millpond_core.errors import Code, EngineError
from millpond_router.embedding_window import EmbeddingWindow
from millpond_router.embeddings import ROWS, WindowedEmbeddings

PATIENT_S = 60.0
"""Longer than any of these tests: what is waited for comes."""


class Told(Embedder):
    """An embedder that answers when it is told to. open: at once."""

    def __init__(self, *, open: bool = True, away: bool = False) -> None:
        super().__init__("127.0.0.1:1")
        self.calls: list[Sequence[str]] = []
        self._away = away
        self._asked = asyncio.Semaphore(0)
        self._open = asyncio.Event()
        if open:
            self._open.set()

    def answer(self) -> None:
        self._open.set()

    async def asked(self, calls: int) -> None:
        """Until it was called so many times more."""
        for _ in range(calls):
            await self._asked.acquire()

    async def embed(self, texts: Sequence[str], timeout_s: float | None = None) -> list[envelope_pb2.Embedding]:
        del timeout_s
        self.calls.append(texts)
        self._asked.release()
        await self._open.wait()
        if self._away:
            raise EngineError(Code.ENGINE_UNAVAILABLE, "away", retryable=True)
        return [envelope_pb2.Embedding(version=text) for text in texts]


def over(embedder: Embedder, *, rows: float = 8, patient_s: float = PATIENT_S) -> WindowedEmbeddings:
    return WindowedEmbeddings(embedder, EmbeddingWindow(PATIENT_S, rows), urgent_s=PATIENT_S, patient_s=patient_s)


TEXTS = [f"text {number}" for number in range(80)]


@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=80), min_size=1, max_size=4), st.integers(1, 200))
@example([TEXTS], 200)
def test_each_text_has_its_own_embedding_and_is_asked_for_once(requests: list[list[str]], rows: int) -> None:
    async def both() -> None:
        embedder = Told()
        embeddings = over(embedder, rows=rows)
        found = await asyncio.gather(*(embeddings.of(texts, urgent=False) for texts in requests))
        assert [[each.version if each else None for each in those] for those in found] == requests
        assert sum(map(len, embedder.calls)) == sum(len(set(texts)) for texts in requests)
        assert all(len(call) <= ROWS for call in embedder.calls)

    asyncio.run(both())


async def test_an_embedder_that_is_away_costs_the_vectors_and_no_request() -> None:
    assert await over(Told(away=True)).of(["a", "b", "a"], urgent=False) == [None, None, None]


async def test_what_has_no_turn_in_its_time_goes_on_without() -> None:
    embedder = Told(open=False)
    embeddings = over(embedder, rows=2, patient_s=0)
    first = asyncio.create_task(embeddings.of(["a", "b"], urgent=True))
    await embedder.asked(2)
    assert await embeddings.of(["c"], urgent=False) == [None]
    embedder.answer()
    assert [each and each.version for each in await first] == ["a", "b"]


async def test_an_urgent_text_has_its_turn_before_those_that_waited_longer() -> None:
    embedder = Told(open=False)
    embeddings = over(embedder, rows=2)
    running = asyncio.create_task(embeddings.of(["a", "b"], urgent=False))
    await embedder.asked(2)
    waiting = asyncio.create_task(embeddings.of(["c", "d"], urgent=False))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(embeddings.of(["u"], urgent=True))
    await asyncio.sleep(0)
    embedder.answer()
    await asyncio.gather(running, waiting, urgent)
    assert embedder.calls[2] == ["u"]
