"""Millpond's look-ups, as the service makes them: its Lookup over a real Milvus and a real Triton."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from millpond.v1 import request_pb2
from millpond_cache.breaker import Breaker
from millpond_cache.lookup import Asked, Lookup
from millpond_cache.milvus_store import MilvusStore
from millpond_cache.partition import Question, question_of
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Entry, Lesson
from millpond_cache.thresholds import Judged, Thresholds
from millpond_cache.verifier import TritonVerifier
from millpond_cli.bench.cache.entries import Texts
from millpond_cli.bench.cache.measured import AT_ONCE, POLL, Measured
from millpond_cli.errors import CommandError
from millpond_core.clock import SystemClock
from millpond_core.embedding import pack

TENANT, MODEL = "bench", "bench"
"""All entries are in one partition: the largest that so many entries can make."""

COLLECTION = "millpond_bench"

TOKENS = 32
"""Said of every text: they are all short enough to be read whole."""

VERIFIED = ("cache.semantic", "cache.miss.verifier")
"""Reasons of look-ups for which the verifier read a pair."""

INDEX_S = 3600.0
"""Within which Milvus must have indexed what it was given: a million vectors take it half an hour on one core."""


class Pond:
    def __init__(self, milvus: str, triton: str, version: str, k: int) -> None:
        """version: of the embedder whose vectors are given. k: nearest entries that are looked at."""
        # Patient: a look-up that is given up would count as a fast one.
        self._settings = CacheSettings(candidates=k, lookup_timeout_s=30)
        self._version = version
        self._address = milvus
        self._k = k
        self._store = MilvusStore(milvus, self._settings.dimension, collection=COLLECTION)
        self._verifier = TritonVerifier(triton)
        self._clock = SystemClock()
        self._breaker = Breaker(self._store, self._settings.lookup_timeout_s)
        self._lookup = Lookup(
            self._store,
            Recent(0),
            Forgotten(),
            self._breaker,
            self._verifier,
            Thresholds(self._settings, Judged()),
            self._settings,
            self._clock,
        )
        self._watching = asyncio.create_task(self._breaker.run())

    async def prepare(self) -> None:
        await self._store.prepare()

    async def learn(self, entries: Texts) -> None:
        await self._store.learn([self._lesson(each) for each in self._asked(entries)])

    async def indexed(self) -> None:
        """Until all that was learned is in an index and searched there. Raises CommandError."""
        client = MilvusClient(self._address)
        ends = time.monotonic() + INDEX_S
        try:
            await asyncio.to_thread(client.flush, COLLECTION)
            while not await asyncio.to_thread(_is_indexed, client):
                if time.monotonic() > ends:
                    raise CommandError(f"Milvus has not indexed its entries within {INDEX_S:.0f} s", 1)
                await asyncio.sleep(1)
        finally:
            client.close()

    async def measure(self, questions: Texts) -> Measured:
        """The first half are looked up one after another, then all, POLL at a time and AT_ONCE such calls at once."""
        asked = self._asked(questions)
        alone: list[float] = []
        verified: list[float] = []
        reasons = Counter[str]()
        for each in asked[: len(asked) // 2]:
            began = time.perf_counter()
            (verdict,) = await self._lookup.look_up([each])
            alone.append((time.perf_counter() - began) * 1e3)
            if verdict.reason.code in VERIFIED:
                verified.append(alone[-1])
        polls = [asked[first : first + POLL] for first in range(0, len(asked), POLL)]
        turns = asyncio.Semaphore(AT_ONCE)

        async def look_up(poll: Sequence[Asked]) -> None:
            async with turns:
                reasons.update(verdict.reason.code for verdict in await self._lookup.look_up(poll))

        began = time.perf_counter()
        await asyncio.gather(*map(look_up, polls))
        return Measured(alone, verified, len(asked) / (time.perf_counter() - began), dict(reasons))

    async def nearest(self, questions: Texts) -> list[set[str]]:
        """The texts of the k nearest entries for each, as the index has them."""
        asked = [self._question(each) for each in self._asked(questions)]
        vectors = [each.vector for each in asked if each.vector is not None]
        found = await self._store.nearest(asked[0].space, vectors, self._k, self._clock.now())
        return [{each.entry.text for each in candidates} for candidates in found]

    async def close(self) -> None:
        self._watching.cancel()
        await self._verifier.close()
        await self._store.close()

    def _asked(self, texts: Texts) -> list[Asked]:
        return [self._one(text, vector) for text, vector in zip(texts.texts, texts.vectors, strict=True)]

    def _one(self, text: str, vector: NDArray[np.float32]) -> Asked:
        message = request_pb2.Message(role="user", content=text)
        request = request_pb2.Request(id="bench", tenant=TENANT, messages=[message])
        return Asked(request, MODEL, pack(vector, self._version, TOKENS))

    def _question(self, asked: Asked) -> Question:
        return question_of(asked.request, asked.model, asked.embedding, self._settings.dimension)

    def _lesson(self, asked: Asked) -> Lesson:
        question = self._question(asked)
        now = self._clock.now()
        entry = Entry(
            key=question.key,
            tenant=question.tenant,
            partition=question.partition,
            embedder=question.embedder,
            text=question.text,
            model=question.model,
            output=f"The answer to: {question.text}",
            finish_reason="stop",
            input_tokens=TOKENS,
            output_tokens=TOKENS,
            source_id="bench",
            answered_at=now,
            expires_at=int(now) + 24 * 3600,
        )
        return Lesson(entry, question.vector)


def _is_indexed(client: MilvusClient) -> bool:
    index = client.describe_index(COLLECTION, "vector")
    return int(index.get("pending_index_rows", 0)) == 0
