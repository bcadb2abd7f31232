"""Keeps the store in order: what has expired is freed, and where there is too much, what saves least goes first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from millpond_cache.key_slices import slices
from millpond_cache.store import Store, StoreRefused, StoreUnavailable, Which
from millpond_cache.worth import Uses, least
from millpond_core.clock import Clock
from millpond_core.cost import Price

logger = logging.getLogger(__name__)

SWEEP_S = 600.0
"""Seconds between two looks. What has expired is not given out in between."""

ROOM = 0.05
"""Share of the capacity that is made free at once, so that not every look finds too many."""


class House:
    """prices: by model."""

    def __init__(self, store: Store, uses: Uses, prices: Mapping[str, Price], clock: Clock) -> None:
        self._store = store
        self._uses = uses
        self._prices = prices
        self._clock = clock

    async def keep(self, most: int | None) -> None:
        """For ever. most: entries; None where another replica sees to that."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._clock.now()
            try:
                await self._store.forget_expired(now)
                if most is not None:
                    await keep_within(most, self._store, self._uses, self._prices, now)
            except (StoreUnavailable, StoreRefused) as failure:
                logger.warning("what has expired, or is too much, stays for now: %s", failure)


async def keep_within(most: int, store: Store, uses: Uses, prices: Mapping[str, Price], now: float) -> int:
    """How many entries had to go. now: seconds since 1970. Raises StoreUnavailable or StoreRefused.

    The worst of each slice are, together, nearly the worst of all.
    """
    entries = await store.count(Which())
    if entries <= most:
        return 0
    share = 1 - most * (1 - ROOM) / entries
    gone = 0
    for prefix in slices(entries):
        keys = least(await store.slice(prefix), share, uses, prices, now)
        await store.drop(keys)
        gone += len(keys)
    logger.info("answers that save least were forgotten", extra={"entries": gone, "of": entries, "most": most})
    return gone
