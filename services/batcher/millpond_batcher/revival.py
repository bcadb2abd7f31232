"""Waits until a model answers, and brings it back where its process died in Triton."""

from __future__ import annotations

import asyncio
import logging
import random
from time import monotonic

from millpond_batcher.engine import Engine, Fault
from millpond_core.errors import EngineError

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5

SAY_EVERY_S = 60.0
"""Between two lines that say the same."""

RELOAD_EVERY_S = 60.0
"""A model that never answers, however often it is loaded, costs a load a minute."""

LOADABLE = ("dead", "unloaded")

SPREAD_S = 1.0
"""Replicas see a model die at the same moment; the first to look again after its own part of this loads it."""


class Revival:
    """reload: whether to load a model that is dead or not loaded. name: what to call the model in the log."""

    def __init__(self, engine: Engine, name: str, *, reload: bool) -> None:
        self._engine = engine
        self._name = name
        self._reload = reload
        self._reloaded_at: dict[str, float] = {}
        """By model in Triton."""
        self._said = ""
        self._said_at = 0.0

    async def answering(self) -> None:
        """Return once the model answers."""
        while (fault := await self._engine.fault()) is not None:
            self._say(fault)
            since_s = monotonic() - self._reloaded_at.get(fault.model, -RELOAD_EVERY_S)
            if self._reload and fault.kind in LOADABLE and since_s >= RELOAD_EVERY_S:
                await self._bring_back()
            await asyncio.sleep(CHECK_EVERY_S)
        if self._said:
            logger.info("model %s answers", self._name)
        self._said = ""
        # One that answers and dies later is loaded at once: a request that kills it is being looked for.
        self._reloaded_at.clear()

    async def _bring_back(self) -> None:
        await asyncio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311
        fault = await self._engine.fault()
        if fault is None or fault.kind not in LOADABLE:
            return
        self._reloaded_at[fault.model] = monotonic()
        logger.warning("model %s: loading %s again: %s", self._name, fault.model, fault.reason)
        try:
            # A dead process is not noticed by a load alone.
            if fault.kind == "dead":
                await self._engine.unload(fault.model)
            await self._engine.load(fault.model)
        except EngineError as failure:
            logger.warning("model %s: could not be loaded: %s", self._name, failure)

    def _say(self, fault: Fault) -> None:
        if fault.reason != self._said or monotonic() - self._said_at >= SAY_EVERY_S:
            logger.warning("waiting for model %s: %s in Triton: %s", self._name, fault.model, fault.reason)
            self._said, self._said_at = fault.reason, monotonic()
