"""Whether the store is asked at all: one that is away must not cost every request its patience."""

from __future__ import annotations

import asyncio
import logging

from millpond_cache.store import Store, StoreRefused, StoreUnavailable

logger = logging.getLogger(__name__)

FAILURES = 3
"""Look-ups in a row that fail before the store is left alone: one may be a pause of its garbage collector."""

PAUSE_S = 1.0
"""Seconds between two tries to reach a store that is away."""

QUIET_TRIES = 30
"""Tries between two log lines that say so."""

PREPARE_S = 90.0
"""Seconds to make a collection and load it: a Milvus that hangs is tried again after it."""

PROBE_KEY = "0" * 64


class Breaker:
    """Open at first, until the store is prepared. `run` closes it, in the background; nobody else waits for it.

    timeout_s: how fast the store must answer to be asked again.
    """

    def __init__(self, store: Store, timeout_s: float, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._failures = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def closed(self) -> bool:
        """Whether the store is to be asked."""
        return not self._open.is_set()

    def answered(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES and self.closed:
            logger.warning("the cache's store does not answer: all look-ups are misses until it does")
            self._open.set()

    async def run(self) -> None:
        """For ever: wait until the breaker opens, prepare the store, close the breaker."""
        tries = 0
        while True:
            await self._open.wait()
            try:
                async with asyncio.timeout(PREPARE_S):
                    await self._store.prepare()
                async with asyncio.timeout(self._timeout_s):
                    await self._store.get([PROBE_KEY])
            except (StoreUnavailable, StoreRefused, TimeoutError) as failure:
                if tries % QUIET_TRIES == 0:
                    logger.warning("waiting for the cache's store, meanwhile all is a miss: %s", failure or "no answer")
                tries += 1
                await asyncio.sleep(self._pause_s)
            else:
                # One failure more opens it again: it has yet to show that it can bear the load.
                self._failures = FAILURES - 1
                tries = 0
                self._open.clear()
                logger.info("the cache's store answers")
