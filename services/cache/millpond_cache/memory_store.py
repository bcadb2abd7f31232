"""The store in memory: for tests, and the plainest statement of what a store does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from millpond_cache.partition import Space
from millpond_cache.reindex import again
from millpond_cache.store import Candidate, Embed, Entry, Kept, Lesson, Which


class MemoryStore:
    """Implements `Store`."""

    def __init__(self) -> None:
        self._lessons: dict[str, Lesson] = {}

    async def prepare(self) -> None: ...

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        return {key: self._lessons[key].entry for key in keys if key in self._lessons}

    async def nearest(
        self, space: Space, vectors: Sequence[NDArray[np.float32]], limit: int, now: float
    ) -> list[list[Candidate]]:
        found = [
            (lesson.entry, lesson.vector)
            for lesson in self._lessons.values()
            if lesson.vector is not None
            and Space(lesson.entry.tenant, lesson.entry.partition, lesson.entry.embedder) == space
            and lesson.entry.expires_at > now
        ]
        return [
            sorted(
                (Candidate(entry, _cosine(vector, other)) for entry, other in found),
                key=lambda candidate: -candidate.similarity,
            )[:limit]
            for vector in vectors
        ]

    async def learn(self, lessons: Sequence[Lesson]) -> None:
        self._lessons.update({lesson.entry.key: lesson for lesson in lessons})

    async def count(self, which: Which) -> int:
        return sum(which.fits(lesson.entry) for lesson in self._lessons.values())

    async def forget(self, which: Which) -> int:
        before = len(self._lessons)
        self._lessons = {key: each for key, each in self._lessons.items() if not which.fits(each.entry)}
        return before - len(self._lessons)

    async def rebuild(self, embed: Embed) -> int:
        before = dict(self._lessons)
        made = await again([each.entry for each in before.values()], embed)
        # Neither back in its place is what was freed meanwhile, nor what another answer was learned for.
        self._lessons |= {
            key: each for key, each in zip(before, made, strict=True) if self._lessons.get(key) is before[key]
        }
        return len(made)

    async def slice(self, prefix: str) -> list[Kept]:
        return [kept_of(each.entry) for key, each in self._lessons.items() if key.startswith(prefix)]

    async def drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._lessons.pop(key, None)

    async def forget_expired(self, now: float) -> None:
        self._lessons = {key: each for key, each in self._lessons.items() if each.entry.expires_at > now}

    async def close(self) -> None: ...


def kept_of(entry: Entry) -> Kept:
    return Kept(entry.key, entry.model, entry.input_tokens, entry.output_tokens, entry.answered_at)


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
