"""Questions that differ in nothing but the place of their answers: what tests of the cache's isolation ask and tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache_heads import CALIBRATION, KnowingVerifier, heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.breaker import Breaker
from millpond_cache.lesson import Keeping, lesson_of
from millpond_cache.lookup import Asked, Lookup
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Lesson, Store
from millpond_cache.thresholds import Judged, Thresholds
from millpond_core.clock import ManualClock
from millpond_core.embedding import pack

NOW = 1_800_000_000.0
# Patient: what is tested is not the time it takes.
SETTINGS = CacheSettings(lookup_timeout_s=60)
KEEPING = Keeping(SETTINGS.ttl_s, SETTINGS.max_temperature, SETTINGS.dimension, heads().cacheability)
VECTOR = np.eye(1, 384, dtype=np.float32)[0]

TEXTS = ("how deep is the sea", "how deep is a sea", "the sea, how deep is it")
"""Nothing but their place tells them apart: they have one vector and pass the guard."""


@dataclass(frozen=True)
class Asking:
    """All that an answer depends on but the text, which is one of TEXTS."""

    tenant: str
    system: str
    history: tuple[str, ...]
    model: str
    temperature: float | None
    max_tokens: int | None
    embedder: str
    text: str

    @property
    def place(self) -> tuple[object, ...]:
        """Where a near text's answer may come from."""
        return (*self.exact_place, self.embedder)

    @property
    def exact_place(self) -> tuple[object, ...]:
        return self.tenant, self.system, self.history, self.model, self.temperature, self.max_tokens

    def asked(self) -> Asked:
        messages = [request_pb2.Message(role="system", content=self.system)] if self.system else []
        for turn, content in enumerate(self.history):
            messages.append(request_pb2.Message(role="assistant" if turn % 2 else "user", content=content))
        messages.append(request_pb2.Message(role="user", content=self.text))
        params = request_pb2.Params(temperature=self.temperature, max_tokens=self.max_tokens)
        request = request_pb2.Request(id="r", tenant=self.tenant, messages=messages, params=params)
        return Asked(request, self.model, pack(VECTOR, self.embedder, 6))

    def learned(self) -> envelope_pb2.Learned:
        asked = self.asked()
        learned = envelope_pb2.Learned(
            request=asked.request,
            embedding=asked.embedding,
            output=result_pb2.Output(text=repr(self)),
            served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=asked.model),
        )
        learned.answered_at.FromSeconds(int(NOW))
        return learned


def lessons_of(told: Sequence[Asking]) -> list[Lesson]:
    """The same question told again, by whichever embedder, takes the earlier one's place."""
    lessons = [lesson for each in told if (lesson := lesson_of(each.learned(), KEEPING, NOW))]
    assert len(lessons) == len(told)
    return list({lesson.entry.key: lesson for lesson in lessons}.values())


async def answers_from(store: Store, asked: Sequence[Asking]) -> list[str | None]:
    """What each is answered from the store alone: the `repr` of the asking that was told."""
    breaker = Breaker(store, timeout_s=60)
    closing = asyncio.create_task(breaker.run())
    while not breaker.closed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    closing.cancel()
    thresholds = Thresholds(SETTINGS, Judged(), CALIBRATION)
    recent, forgotten, clock = Recent(0), Forgotten(), ManualClock(NOW)
    lookup = Lookup(store, recent, forgotten, breaker, KnowingVerifier(), thresholds, SETTINGS, clock, heads())
    verdicts = await lookup.look_up([each.asked() for each in asked])
    return [verdict.entry.output if verdict.entry else None for verdict in verdicts]


def check(told: Sequence[Asking], asked: Sequence[Asking], answers: Sequence[str | None]) -> None:
    """Each has an answer of its own place, and where there was none to be had, none."""
    kept = {(each.exact_place, each.text): each for each in told}
    places = {each.place for each in kept.values()}
    for each, answer in zip(asked, answers, strict=True):
        # The positive control: what was told in this place is found, by every text of the place.
        assert (answer is not None) == (each.place in places or (each.exact_place, each.text) in kept), each
        if answer is not None:
            source = next(one for one in kept.values() if repr(one) == answer)
            assert source.exact_place == each.exact_place
            assert source.text == each.text or source.embedder == each.embedder
