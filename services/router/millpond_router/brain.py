"""The heads in use, with what outcomes have taught: both may be replaced while the router runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from millpond.v1 import envelope_pb2
from millpond_core.embedder import Embedder
from millpond_core.embedding import unpack
from millpond_core.errors import EngineError
from millpond_router import head_folder, outcomes
from millpond_router.decide import Learned
from millpond_router.heads import Heads, HeadsError, Reading
from millpond_router.outcomes import LearnedError
from millpond_router.watched import LOOK_S, Watched

logger = logging.getLogger(__name__)

NOTHING = Learned()

NO_LABELS: Mapping[str, Collection[str]] = {}


class Brain:
    """folder: of heads; without one nothing is known. calibration: a file of what outcomes taught, if there is one.

    models: those that the heads are to promise something for; none for all that they know. labels: the domains and the
    tasks that settings and rules name; what the heads do not know of either is named in the log. without: what becomes
    of requests where there are no heads.
    """

    def __init__(
        self,
        folder: Path | None = None,
        calibration: Path | None = None,
        *,
        what: str = "heads",
        models: Collection[str] = (),
        labels: Mapping[str, Collection[str]] = NO_LABELS,
        without: str = "the rules go on alone",
    ) -> None:
        self._what = what
        self._models = models
        self._labels = labels
        self._without = without
        self._heads: Watched[Heads] | None = None
        self._file: Watched[Learned] | None = None
        self._live: Learned | None = None
        self._strangers: set[str] = set()
        if folder is not None:
            manifest = folder / head_folder.MANIFEST
            self._heads = Watched(what, manifest, lambda: self._read(folder), HeadsError)
        if calibration is not None:
            self._file = Watched(f"{what}, calibration", calibration, lambda: outcomes.read(calibration), LearnedError)

    @property
    def heads(self) -> Heads | None:
        return self._heads.value if self._heads else None

    @property
    def learned(self) -> Learned:
        """What was learned of the heads in use: while running where that is on, else by the file."""
        learned = self._live or (self._file.value if self._file else None)
        return learned if learned and self.heads and learned.heads == self.heads.version else NOTHING

    def teach(self, learned: Learned | None) -> None:
        """From now on this holds, in place of the file's; None goes back to the file's."""
        self._live = learned

    def look(self) -> None:
        """At the files, at start and from time to time. What is wrong with one is named in the log."""
        for watched in (self._heads, self._file):
            if watched is not None:
                watched.look()
        if self._heads is not None and self._heads.value is None:
            logger.warning("%s: there are none that can be used: %s", self._what, self._without)

    async def meet(self, encoder: Embedder) -> None:
        """Name heads that are for another encoder than this as soon as it is there, not at the first request."""
        while True:
            try:
                version = await encoder.version()
            except EngineError:
                await asyncio.sleep(LOOK_S)
            else:
                if self.heads is not None:
                    self._understands(self.heads, version)
                return

    async def keep(self) -> NoReturn:
        while True:
            await asyncio.sleep(LOOK_S)
            for watched in (self._heads, self._file):
                if watched is not None:
                    await asyncio.to_thread(watched.look)

    def _read(self, folder: Path) -> Heads:
        heads = head_folder.read(folder)
        labels = heads.labels
        for kind, named, there in (
            ("models (`resembles`)", self._models, labels.models),
            ("domains", self._labels.get("domains", ()), (*labels.domains, *labels.fields)),
            ("tasks", self._labels.get("tasks", ()), labels.tasks),
        ):
            if strangers := sorted({*named} - {*there}):
                logger.warning(
                    "%s: of the %s that settings and rules name they know no %s, only %s",
                    *(self._what, kind, ", ".join(strangers), ", ".join(there)),
                )
        known = [model for model in self._models if model in heads.labels.models]
        return heads.only(known) if known else heads

    def readings(
        self, texts: Sequence[str], embeddings: Sequence[envelope_pb2.Embedding | None]
    ) -> list[Reading | None]:
        """One for each text; None without heads, or where its vector is missing or another embedder's."""
        heads = self.heads
        readings: list[Reading | None] = [None] * len(texts)
        if heads is None:
            return readings
        places: list[int] = []
        for place, embedding in enumerate(embeddings):
            if embedding is not None and self._understands(heads, embedding.version):
                places.append(place)
        if places:
            vectors = np.stack([unpack(each) for place in places if (each := embeddings[place]) is not None])
            answers = heads.ask(vectors, [texts[place] for place in places])
            for row, place in enumerate(places):
                readings[place] = answers.reading(row)
        return readings

    def _understands(self, heads: Heads, version: str) -> bool:
        if version == heads.embedder:
            return True
        if version not in self._strangers:
            self._strangers.add(version)
            logger.error(
                "%s: %s is for the embedder %s, and the embedder is %s: %s",
                *(self._what, heads.version, heads.embedder, version, self._without),
            )
        return False
