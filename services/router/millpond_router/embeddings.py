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
from millpond_router.embedding_window import SILENT_S, EmbeddingWindow

logger = logging.getLogger(__name__)

ROWS = 32
"""Of one call. Triton joins calls to batches; a call of one row each would cost 1 ms of Python a row."""

REPORT_S = 10.0
"""Between two log lines that say that the embedder does not answer."""


class NoEmbeddings:
    """Where requests are routed by rules alone."""

    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:  # noqa: ARG002
        return [None] * len(texts)


class WindowedEmbeddings:
    """From the embedder in Triton, as much at a time as it has time for.

    urgent_s: how long an urgent request waits for its turn, and then for the answer. patient_s: how long another waits
    for its turn; for the answer it waits until the embedder counts as away.
    """

    def __init__(self, embedder: Embedder, window: EmbeddingWindow, urgent_s: float, patient_s: float) -> None:
        self._embedder = embedder
        self._window = window
        self._urgent_s = urgent_s
        self._patient_s = patient_s
        self._changed = asyncio.Condition()
        self._urgent_waiting = 0
        self._reported_at = -REPORT_S

    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        """One per text, in their order. Those of urgent requests have their turn first."""
        different = list(dict.fromkeys(texts))
        calls: list[asyncio.Task[Sequence[envelope_pb2.Embedding | None]]] = []
        until = asyncio.get_running_loop().time() + (self._urgent_s if urgent else self._patient_s)
        first = 0
        while first < len(different) and (rows := await self._turn(len(different) - first, urgent, until)):
            part = different[first : first + rows]
            # Counted before anybody else is told that there is room.
            self._window.asked(rows, time.monotonic())
            calls.append(asyncio.create_task(self._embed(part, urgent)))
            first += rows
        answers = chain.from_iterable(await asyncio.gather(*calls))
        found = dict(zip(different, answers, strict=False))
        return [found.get(text) for text in texts]

    async def _embed(self, texts: Sequence[str], urgent: bool) -> Sequence[envelope_pb2.Embedding | None]:
        rows, window, asked_at = len(texts), self._window, time.monotonic()
        try:
            embeddings = await self._embedder.embed(texts, self._urgent_s if urgent else SILENT_S)
        except EngineError as failure:
            now = time.monotonic()
            window.failed(rows, now - asked_at, now)
            self._report(failure)
            return [None] * rows
        else:
            window.answered(rows, time.monotonic() - asked_at)
            return embeddings
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _turn(self, wanted: int, urgent: bool, until: float) -> int:
        """Wait for room: how many rows it is. 0 where there is none in time, or nobody to ask.

        until: of the event loop's clock.
        """
        window = self._window
        self._urgent_waiting += urgent

        def mine() -> bool:
            first = urgent or not self._urgent_waiting
            return (first and window.room(wanted) > 0) or window.closed(time.monotonic())

        try:
            async with asyncio.timeout_at(until), self._changed:
                await self._changed.wait_for(mine)
        except TimeoutError:
            return 0
        finally:
            self._urgent_waiting -= urgent
        return 0 if window.closed(time.monotonic()) else min(ROWS, window.room(wanted))

    def _report(self, failure: EngineError) -> None:
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S:
            logger.warning("requests go on by rules and exact matches only: %s", failure)
            self._reported_at = now
