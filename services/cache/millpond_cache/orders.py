"""Orders to forget answers: carried out here at once, told to the other replicas, and taken from them.

An order reaches what was answered before it was given, whenever that is learned, and nothing that was answered since:
carried out twice, or late, it does the same.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from millpond.v1 import control_pb2
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.store import Store, StoreRefused, StoreUnavailable, Which, kept_tag
from millpond_core.clock import Clock

logger = logging.getLogger(__name__)

audit = logging.getLogger("millpond.audit")
"""Who made the cache forget what: one line an order, with its particulars as fields."""

SKEW_S = 1.0
"""By so much may the clock of whoever answered be ahead of the one that an order was given by."""

KNOWN = 10_000
"""Orders whose ids are remembered, so that this replica does not carry out twice what it has told the others."""

AGAIN_S = 1.0
"""Seconds until an order is tried again that the store did not take."""

Tell = Callable[[control_pb2.Invalidate], Awaitable[object]]
"""Lets the other replicas hear of an order."""


class Orders:
    def __init__(self, store: Store, recent: Recent, forgotten: Forgotten, clock: Clock, tell: Tell) -> None:
        self._store = store
        self._recent = recent
        self._forgotten = forgotten
        self._clock = clock
        self._tell = tell
        self._known: OrderedDict[str, None] = OrderedDict()
        self._heard: asyncio.Queue[tuple[control_pb2.Invalidate, float]] = asyncio.Queue()

    async def give(self, order: control_pb2.Invalidate) -> int:
        """How many answers were forgotten, or would be. order: one that passes `millpond_core.control.check`.

        Raises StoreUnavailable or StoreRefused; then nothing of what was meant is given here for all that, the others
        are told, and a store that was away is told again by `run`.
        """
        if order.dry_run:
            return await self._carry_out(order, self._clock.now())
        told = control_pb2.Invalidate()
        told.CopyFrom(order)
        told.order = order.order or uuid.uuid4().hex
        now = self._clock.now()
        self._remember(told)
        self._hide(which_of(told, now))
        try:
            return await self._carry_out(told, now)
        except (StoreUnavailable, asyncio.CancelledError):
            # Whoever gave it may be gone too; and when it comes back from ai.control it is known here, and passed over.
            self._heard.put_nowait((told, now))
            raise
        finally:
            await self._tell(told)

    def heard(self, order: control_pb2.Invalidate, given_s: float) -> None:
        """An order from ai.control, as it is read there. given_s: seconds since 1970."""
        if order.order in self._known:
            return
        self._remember(order)
        if not order.dry_run:
            self._hide(which_of(order, given_s))
        self._heard.put_nowait((order, given_s))

    async def run(self) -> None:
        """For ever: carry out what was heard, each as soon as the store lets it."""
        while True:
            order, given_s = await self._heard.get()
            try:
                await self._carry_out(order, given_s)
            except StoreUnavailable as failure:
                logger.warning("an order to forget answers waits for the store: %s", failure)
                self._heard.put_nowait((order, given_s))
                await asyncio.sleep(AGAIN_S)
            except StoreRefused as failure:
                logger.warning("the store refuses an order to forget answers, which stay hidden: %s", failure)

    def _hide(self, which: Which) -> None:
        self._recent.forget(which)
        self._forgotten.forget(which)

    async def _carry_out(self, order: control_pb2.Invalidate, given_s: float) -> int:
        which = which_of(order, given_s)
        entries = await (self._store.count(which) if order.dry_run else self._store.forget(which))
        audit.info(
            "answers were counted, to be forgotten" if order.dry_run else "answers were forgotten",
            extra={
                "by": order.by[:128] or "unnamed",
                "order": order.order,
                "tenant": order.tenant,
                "source_id": order.source_id,
                "tag": order.tag,
                # What people ask is in no log.
                "prefix_characters": len(order.prefix),
                "model": order.model,
                "older_than": order.older_than.ToJsonString() if order.HasField("older_than") else "",
                "entries": entries,
            },
        )
        return entries

    def _remember(self, order: control_pb2.Invalidate) -> None:
        if order.order:
            self._known[order.order] = None
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)


def which_of(order: control_pb2.Invalidate, given_s: float) -> Which:
    """Pure. given_s: seconds since 1970."""
    bound_s = given_s + SKEW_S
    return Which(
        tenant=order.tenant,
        source_id=order.source_id,
        tag=kept_tag(order.tag),
        prefix=order.prefix,
        model=order.model,
        older_than=min(order.older_than.ToNanoseconds() / 1e9, bound_s) if order.HasField("older_than") else bound_s,
    )
