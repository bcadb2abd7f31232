"""Look-ups are bounded in time and never fail, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cache_heads import CALIBRATION, KnowingVerifier, heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.breaker import FAILURES, Breaker
from millpond_cache.decide import Verdict
from millpond_cache.lesson import Keeping, lesson_of
from millpond_cache.lookup import Asked, Lookup
from millpond_cache.memory_store import MemoryStore
from millpond_cache.partition import Space
from millpond_cache.recent import SEEN_S, Forgotten, Recent
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Candidate, Entry, Lesson, StoreUnavailable, Which
from millpond_cache.thresholds import Judged, Thresholds
from millpond_core.clock import ManualClock
from millpond_core.embedding import pack

NOW = 1_000_000.0
SETTINGS = CacheSettings(lookup_timeout_s=60, patient_timeout_s=60, error_budget_by_tenant={"strict": 1e-9})
HURRIED = SETTINGS.model_copy(update={"lookup_timeout_s": 0.5})
"""Where the store hangs: what does answer takes a hundredth of that, on a busy machine too."""

KEEPING = Keeping(SETTINGS.ttl_s, SETTINGS.max_temperature, SETTINGS.dimension, heads().cacheability)
VECTOR = np.eye(1, 384, dtype=np.float32)[0]


class TroubledStore(MemoryStore):
    """A store in memory that counts what it is asked, and may be away or hang, altogether or in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[Sequence[str]] = []
        self.searches: list[Space] = []
        self.away = False
        self.hanging: set[str] = set()
        self.go_on = asyncio.Event()
        self.broken_tenant = ""

    async def prepare(self) -> None:
        await self._suffer("prepare")

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        self.gets.append(keys)
        await self._suffer("get")
        return await super().get(keys)

    async def nearest(
        self, space: Space, vectors: Sequence[NDArray[np.float32]], limit: int, now: float
    ) -> list[list[Candidate]]:
        self.searches.append(space)
        await self._suffer("nearest")
        if space.tenant == self.broken_tenant:
            raise StoreUnavailable("this one is broken")
        return await super().nearest(space, vectors, limit, now)

    async def _suffer(self, call: str) -> None:
        if self.away:
            raise StoreUnavailable("away")
        if call in self.hanging:
            await self.go_on.wait()


@dataclass
class Setting:
    store: TroubledStore = field(default_factory=TroubledStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    settings: CacheSettings = SETTINGS

    def __post_init__(self) -> None:
        self.recent, self.forgotten = Recent(1e6), Forgotten()
        self.breaker = Breaker(self.store, self.settings.lookup_timeout_s, pause_s=0.001)
        self.verifier = KnowingVerifier()
        thresholds = Thresholds(self.settings, Judged(), CALIBRATION)
        self.lookup = Lookup(
            self.store,
            self.recent,
            self.forgotten,
            self.breaker,
            self.verifier,
            thresholds,
            self.settings,
            self.clock,
            heads(),
        )

    async def codes(self, *asked: Asked) -> list[str]:
        return [verdict.reason.code for verdict in await self.lookup.look_up(asked)]

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """While it is open, the breaker looks after the store; it is closed at first."""
        task = asyncio.create_task(self.breaker.run())
        await self.until_closed()
        self.store.gets.clear()
        yield
        task.cancel()
        await asyncio.wait([task])

    async def until_closed(self) -> None:
        async with asyncio.timeout(60):
            while not self.breaker.closed:  # noqa: ASYNC110
                await asyncio.sleep(0)


def asked(text: str = "how deep is the sea", tenant: str = "acme", *, blind: bool = False, mode: int = 0) -> Asked:
    message = request_pb2.Message(role="user", content=text)
    options = request_pb2.CacheOptions(mode=request_pb2.CacheMode.Name(mode))
    request = request_pb2.Request(id="r-2", tenant=tenant, messages=[message], cache=options)
    return Asked(request, "small", None if blind else pack(VECTOR, "embedder-1", 6))


def lesson(of: Asked, text: str = "Deep.") -> Lesson:
    learned = envelope_pb2.Learned(
        request=of.request,
        embedding=of.embedding,
        output=result_pb2.Output(text=text, finish_reason="stop"),
        served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=of.model),
    )
    learned.answered_at.FromSeconds(int(NOW))
    made = lesson_of(learned, KEEPING, NOW)
    assert made is not None
    return made


async def test_exact_and_semantic_hits_and_misses_come_in_the_order_asked() -> None:
    setting = Setting()
    await setting.store.learn([lesson(asked())])
    async with setting.watched():
        codes = await setting.codes(
            asked("how deep is a sea"),
            asked(mode=request_pb2.CACHE_MODE_BYPASS),
            asked(),
            asked("how deep is no sea"),
            asked(blind=True),
            asked("how wide is the sea", blind=True),
            asked(tenant="other"),
        )
    assert codes == [
        "cache.semantic",
        "cache.bypass",
        "cache.exact",
        "cache.miss.guard",
        "cache.exact",
        "cache.miss.no_embedding",
        "cache.miss.empty",
    ]


async def test_an_exact_answer_that_has_expired_does_not_stand_before_one_by_meaning() -> None:
    setting = Setting()
    kept = lesson(asked())
    gone = replace(kept, entry=replace(kept.entry, expires_at=int(NOW) - 1))
    await setting.store.learn([gone])
    async with setting.watched():
        assert await setting.codes(asked()) == ["cache.miss.empty"]
        await setting.store.learn([lesson(asked("how deep is a sea"))])
        assert await setting.codes(asked()) == ["cache.semantic"]


async def test_many_are_looked_up_in_few_calls() -> None:
    setting = Setting()
    many = [asked(f"how deep is sea {number % 10}", tenant) for number in range(50) for tenant in ("a", "b")]
    async with setting.watched():
        await setting.codes(*many)
    (keys,) = setting.store.gets
    assert len(keys) == len(set(keys)) == 20
    assert sorted(space.tenant for space in setting.store.searches) == ["a", "b"]


async def test_all_that_is_to_be_verified_is_asked_in_one_call() -> None:
    setting = Setting()
    for tenant in ("a", "b"):
        await setting.store.learn([lesson(asked(tenant=tenant))])
    async with setting.watched():
        many = [asked(f"how deep is {the} sea", tenant) for the in ("a", "that", "this") for tenant in ("a", "b")]
        assert await setting.codes(*many) == ["cache.semantic"] * 6
    (pairs,) = setting.verifier.calls
    assert len(pairs) == 6


async def test_a_verifier_that_is_away_or_slow_is_a_miss_by_meaning_and_no_more() -> None:
    setting = Setting()
    await setting.store.learn([lesson(asked())])
    async with setting.watched():
        setting.verifier.away = True
        for _ in range(2 * FAILURES):
            assert await setting.codes(asked(), asked("how deep is a sea")) == ["cache.exact", "cache.miss.unverified"]
        assert setting.breaker.closed


async def test_what_the_verifier_doubts_is_a_miss() -> None:
    setting = Setting()
    await setting.store.learn([lesson(asked())])
    setting.verifier.doubted = ["ocean"]
    async with setting.watched():
        assert await setting.codes(asked("how deep is an ocean")) == ["cache.miss.verifier"]


async def test_what_no_word_of_the_verifier_could_make_a_hit_costs_no_call_of_it() -> None:
    setting = Setting()
    await setting.store.learn([lesson(asked(tenant="strict"))])
    async with setting.watched():
        assert await setting.codes(asked("how deep is a sea", "strict")) == ["cache.miss.unlikely"]
    assert setting.verifier.calls == []


async def test_what_is_not_looked_up_costs_no_call() -> None:
    setting = Setting()
    async with setting.watched():
        await setting.codes(asked(mode=request_pb2.CACHE_MODE_REFRESH), asked(mode=request_pb2.CACHE_MODE_BYPASS))
        assert await setting.codes() == []
    assert setting.store.gets == []


@pytest.mark.parametrize("trouble", ["away", "hanging"])
async def test_a_store_in_trouble_is_a_miss_and_after_some_is_not_asked(trouble: str) -> None:
    setting = Setting(settings=HURRIED)
    async with setting.watched():
        setting.store.away = trouble == "away"
        setting.store.hanging = {"prepare", "get"} if trouble == "hanging" else set()
        for _ in range(FAILURES):
            assert await setting.codes(asked(), asked(blind=True)) == ["cache.unavailable"] * 2
        assert not setting.breaker.closed
        before = len(setting.store.searches)
        assert await setting.codes(asked()) == ["cache.unavailable"]
        assert len(setting.store.searches) == before


async def test_the_store_is_asked_again_when_it_is_back() -> None:
    setting = Setting()
    await setting.store.learn([lesson(asked())])
    async with setting.watched():
        setting.store.away = True
        while setting.breaker.closed:
            await setting.codes(asked())
        setting.store.away = False
        await setting.until_closed()
        assert await setting.codes(asked()) == ["cache.exact"]


async def test_without_a_store_from_the_start_all_is_a_miss() -> None:
    setting = Setting()
    assert await setting.codes(asked()) == ["cache.unavailable"]
    assert setting.store.gets == []


async def test_what_came_in_time_is_used() -> None:
    setting = Setting(settings=HURRIED)
    await setting.store.learn([lesson(asked())])
    async with setting.watched():
        setting.store.hanging = {"nearest"}
        codes = await setting.codes(asked(), asked("how deep is a sea"), asked("how wide", blind=True))
    assert codes == ["cache.exact", "cache.unavailable", "cache.miss.no_embedding"]


async def test_who_can_wait_longer_still_gets_what_others_did_not_wait_for() -> None:
    setting = Setting(settings=HURRIED)
    await setting.store.learn([lesson(asked())])
    async with setting.watched():
        setting.store.hanging = {"nearest"}
        patient = asyncio.create_task(setting.lookup.look_up([asked("how deep is a sea")], patient=True))
        assert await setting.codes(asked("how deep is a sea")) == ["cache.unavailable"]
        setting.store.go_on.set()
        (verdict,) = await patient
        assert verdict.reason.code == "cache.semantic"


async def test_trouble_with_one_space_is_its_own() -> None:
    setting = Setting()
    for tenant in ("acme", "other"):
        await setting.store.learn([lesson(asked(tenant=tenant))])
    async with setting.watched():
        setting.store.broken_tenant = "other"
        for _ in range(2 * FAILURES):
            codes = await setting.codes(asked("how deep is a sea"), asked("how deep is a sea", "other"))
            assert codes == ["cache.semantic", "cache.unavailable"]


async def test_what_was_just_learned_hits_before_the_store_shows_it() -> None:
    setting = Setting()
    setting.recent.remember(lesson(asked()).entry, NOW)
    (verdict,) = await setting.lookup.look_up([asked()])
    assert _said(verdict) == "Deep."
    setting.clock.advance(SEEN_S + 1)
    assert await setting.codes(asked()) == ["cache.unavailable"]


async def test_what_was_ordered_to_be_forgotten_is_not_given_though_it_is_learned_after_the_order() -> None:
    setting = Setting()
    learned = lesson(asked())
    setting.forgotten.forget(Which(tenant="acme", older_than=NOW + 1))
    async with setting.watched():
        # It was on its way to the store while the order was carried out.
        await setting.store.learn([learned])
        setting.recent.remember(learned.entry, NOW)
        assert await setting.codes(asked(), asked("how deep is a sea")) == ["cache.miss.empty"] * 2
        assert await setting.lookup.recall([learned.entry.key]) == {}
        later = replace(learned.entry, answered_at=NOW + 2)
        setting.recent.remember(later, NOW)
        assert await setting.codes(asked()) == ["cache.exact"]
        assert (await setting.lookup.recall([later.key]))[later.key].entry == later


def test_recent_answers_take_no_more_memory_than_they_may() -> None:
    recent = Recent(100_000)
    entries = [lesson(asked(f"how deep is sea {number}"), "x" * 1000).entry for number in range(100)]
    for entry in entries:
        recent.remember(entry, NOW)
    kept = [entry for entry in entries if recent.get(entry.key, NOW) is not None]
    assert kept == entries[-len(kept) :]
    assert 0 < sum(4 * len(entry.output) for entry in kept) <= 100_000


def test_a_newer_answer_takes_the_older_ones_place() -> None:
    recent = Recent(1e6)
    for text in ("Deep.", "Deeper."):
        recent.remember(lesson(asked(), text).entry, NOW)
    found = recent.get(lesson(asked()).entry.key, NOW)
    assert found is not None
    assert found.output == "Deeper."


def _said(verdict: Verdict) -> str:
    assert verdict.entry is not None
    return verdict.entry.output
