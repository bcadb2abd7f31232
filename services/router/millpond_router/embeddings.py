"""Embeddings for the requests of a batch, and None for those that the embedder has no time for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import chain

from millpond.v1 import envelope_pb2
from millpond_core.embedder import Embedder
from millpond_core.errors import EngineError
from millpond_router.embedding_window import SMALLEST, EmbeddingWindow

logger = logging.getLogger(__name__)

ROWS = 32
"""Of one call. Triton joins calls to batches; a call of one row each would cost 1 ms of Python a row."""

REPORT_S = 10.0
"""Between two log lines that say that the embedder does not answer."""


class WindowedEmbeddings:
    """From the embedder in Triton, as much at a time as it has time for."""

    def __init__(self, embedder: Embedder, window: EmbeddingWindow) -> None:
        self._embedder = embedder
        self._window = window
        self._changed = asyncio.Condition()
        self._reported_at = -REPORT_S

    async def of(self, texts: Sequence[str]) -> list[envelope_pb2.Embedding | None]:
        """One per text, in their order."""
        size = min(ROWS, max(SMALLEST, int(self._window.rows)))
        parts = [texts[first : first + size] for first in range(0, len(texts), size)]
        return list(chain.from_iterable(await asyncio.gather(*(self._ask(part) for part in parts))))

    async def _ask(self, texts: Sequence[str]) -> Sequence[envelope_pb2.Embedding | None]:
        rows, window = len(texts), self._window
        async with self._changed:
            await self._changed.wait_for(lambda: window.room(rows) or window.closed(time.monotonic()))
            if window.closed(time.monotonic()):
                return [None] * rows
            window.asked(rows)
        asked_at = time.monotonic()
        try:
            embeddings = await self._embedder.embed(texts)
            window.answered(rows, time.monotonic() - asked_at)
        except EngineError as failure:
            window.failed(rows, time.monotonic())
            self._report(failure)
            return [None] * rows
        finally:
            async with self._changed:
                self._changed.notify_all()
        return embeddings

    def _report(self, failure: EngineError) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S:
            logger.warning("requests go on by rules and exact matches only: %s", failure)
            self._reported_at = now
