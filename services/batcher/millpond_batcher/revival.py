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

SAY_AGAIN_S, SAY_AT_LAST_S = 60.0, 3600.0
"""From one line to the next that says the same, at first; twice as long each time, and at most."""

RELOAD_EVERY_S = 60.0
"""A model that never answers, however often it is loaded, costs a load a minute."""

LOADABLE = ("dead", "unloaded")

SPREAD_S = 1.0
"""Replicas see a model die at the same moment; the first to look again after its own part of this loads it."""


class Revival:
    """reload: whether to load a model that is dead or not loaded. name: what to call it in the log."""

    def __init__(self, engine: Engine, name: str, *, reload: bool) -> None:
        self._engine = engine
        self._name = name
        self._reload = reload
        self._reloaded_at = -RELOAD_EVERY_S
        self._said = ""
        self._say_again_at = 0.0
        self._silent_s = SAY_AGAIN_S

    async def answering(self) -> None:
        """Return once the model answers."""
        while (fault := await self._engine.fault()) is not None:
            self._say(fault)
            due = monotonic() - self._reloaded_at >= RELOAD_EVERY_S
            if self._reload and fault.kind in LOADABLE and due:
                await self._bring_back()
            await asyncio.sleep(CHECK_EVERY_S)
        if self._said:
            logger.info("%s answers", self._name)
        self._said = ""
        # One that answers and dies later is loaded at once: a request that kills it is being looked for.
        self._reloaded_at = -RELOAD_EVERY_S

    async def _bring_back(self) -> None:
        await asyncio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311
        fault = await self._engine.fault()
        if fault is None or fault.kind not in LOADABLE:
            return
        self._reloaded_at = monotonic()
        logger.warning("%s: loading it again: %s", self._name, fault.reason)
        try:
            # A dead process is not noticed by a load alone.
            if fault.kind == "dead":
                await self._engine.unload()
            await self._engine.load()
        except EngineError as failure:
            logger.warning("%s: could not be loaded: %s", self._name, failure)

    def _say(self, fault: Fault) -> None:
        same = fault.reason == self._said
        if same and monotonic() < self._say_again_at:
            return
        logger.warning("waiting for %s: %s", self._name, fault.reason)
        self._silent_s = min(self._silent_s * 2, SAY_AT_LAST_S) if same else SAY_AGAIN_S
        self._said, self._say_again_at = fault.reason, monotonic() + self._silent_s
