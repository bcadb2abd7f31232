"""An order to forget answers reaches what was answered before it, whoever hears it and however often, and no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cache_entry import ENTRY, NOW

from millpond.v1 import control_pb2
from millpond_cache.memory_store import MemoryStore
from millpond_cache.orders import SKEW_S, Orders
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.store import Entry, Lesson, StoreUnavailable, Which
from millpond_core.clock import ManualClock


class ShakyStore(MemoryStore):
    """A store that is away, or hangs, until it is told to come back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.hangs = False
        self.refused = asyncio.Event()

    async def forget(self, which: Which) -> int:
        if self.away:
            self.refused.set()
            raise StoreUnavailable("away")
        if self.hangs:
            self.refused.set()
            await asyncio.Event().wait()
        return await super().forget(which)


class Replica:
    """What one replica has of its own, beside the store that all share."""

    def __init__(self, store: MemoryStore, others: list[Replica], clock: ManualClock) -> None:
        self.recent, self.forgotten = Recent(1e6), Forgotten()
        self.clock = clock
        self.others = others
        self.orders = Orders(store, self.recent, self.forgotten, clock, self.tell)

    async def tell(self, order: control_pb2.Invalidate) -> None:
        """As ai.control does: all hear it, whoever told it included."""
        for each in self.others:
            each.orders.heard(order, self.clock.now())

    def gives(self, entry: Entry) -> bool:
        recent = self.recent.get(entry.key, self.clock.now())
        return recent is not None and not self.forgotten.hides(recent)


def replicas(store: MemoryStore) -> list[Replica]:
    clock = ManualClock(NOW)
    both: list[Replica] = []
    both += [Replica(store, both, clock) for _ in range(2)]
    return both


@asynccontextmanager
async def running(orders: Orders) -> AsyncGenerator[None]:
    task = asyncio.create_task(orders.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def until_kept(store: MemoryStore, entries: int) -> None:
    async with asyncio.timeout(60):
        while await store.count(Which()) != entries:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_one_order_reaches_every_replica() -> None:
    store = MemoryStore()
    one, other = replicas(store)
    await store.learn([Lesson(ENTRY, None)])
    for each in (one, other):
        each.recent.remember(ENTRY, NOW)
    assert await one.orders.give(control_pb2.Invalidate(tenant="acme", tag="sea")) == 1
    assert not one.gives(ENTRY)
    assert not other.gives(ENTRY)
    assert await store.count(Which()) == 0


async def test_to_count_forgets_nothing_and_nobody_hears_of_it() -> None:
    store = MemoryStore()
    one, other = replicas(store)
    await store.learn([Lesson(ENTRY, None)])
    other.recent.remember(ENTRY, NOW)
    assert await one.orders.give(control_pb2.Invalidate(tenant="acme", dry_run=True)) == 1
    assert await store.count(Which()) == 1
    assert other.gives(ENTRY)


async def test_what_is_answered_after_an_order_stays_however_late_it_is_heard() -> None:
    store = MemoryStore()
    one, _ = replicas(store)
    later = replace(ENTRY, answered_at=NOW + SKEW_S + 1)
    await store.learn([Lesson(ENTRY, None), Lesson(replace(later, key="l"), None)])
    one.recent.remember(replace(later, key="l"), NOW)
    async with running(one.orders):
        one.orders.heard(control_pb2.Invalidate(tenant="acme"), NOW)
        await until_kept(store, 1)
    assert set(await store.get(["k", "l"])) == {"l"}
    assert one.gives(replace(later, key="l"))


async def test_a_store_that_is_away_is_told_when_it_is_back_and_nothing_is_given_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("millpond_cache.orders.AGAIN_S", 0.001)
    store = ShakyStore()
    one, _ = replicas(store)
    await store.learn([Lesson(ENTRY, None)])
    one.recent.remember(ENTRY, NOW)
    store.away = True
    async with running(one.orders):
        one.orders.heard(control_pb2.Invalidate(tenant="acme"), NOW)
        async with asyncio.timeout(60):
            await store.refused.wait()
        assert not one.gives(ENTRY)
        assert one.forgotten.hides(ENTRY)
        store.away = False
        await until_kept(store, 0)


@pytest.mark.parametrize("trouble", ["away", "left"])
async def test_an_order_is_carried_out_when_the_store_is_back_though_whoever_gave_it_heard_of_no_success(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millpond_cache.orders.AGAIN_S", 0.001)
    store = ShakyStore()
    clock, alone = ManualClock(NOW), list[Replica]()
    alone.append(Replica(store, alone, clock))
    await store.learn([Lesson(ENTRY, None)])
    store.away, store.hangs = trouble == "away", trouble == "left"
    giving = asyncio.create_task(alone[0].orders.give(control_pb2.Invalidate(tenant="acme")))
    async with asyncio.timeout(60):
        await store.refused.wait()
    if trouble == "left":
        giving.cancel()
    with pytest.raises((StoreUnavailable, asyncio.CancelledError)):
        await giving
    store.away, store.hangs = False, False
    async with running(alone[0].orders):
        await until_kept(store, 0)


async def test_each_order_leaves_a_record_of_who_gave_it_and_none_of_what_people_ask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    one, _ = replicas(store)
    await store.learn([Lesson(ENTRY, None)])
    with caplog.at_level(logging.INFO, "millpond.audit"):
        await one.orders.give(control_pb2.Invalidate(tenant="acme", prefix="how deep", by="ada"))
    (record,) = caplog.records
    assert (record.__dict__["by"], record.__dict__["entries"], record.__dict__["prefix_characters"]) == ("ada", 1, 8)
    assert "how deep" not in str(record.__dict__)
