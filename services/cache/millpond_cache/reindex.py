"""Entries as another embedder sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from millpond_cache.store import Embed, Entry, Lesson
from millpond_core.embedder import Embedder
from millpond_core.embedding import reads_all, unpack

EMBED_S = 60.0
"""Seconds for the vectors of one batch: 500 take two on a processor that does nothing else."""


def embed_by(embedder: Embedder) -> Embed:
    """Raises EngineError where the embedder does not answer."""

    async def embed(texts: Sequence[str]) -> list[tuple[str, NDArray[np.float32] | None]]:
        made = await embedder.embed(texts, EMBED_S)
        return [(each.version, unpack(each) if reads_all(each) else None) for each in made]

    return embed


async def again(entries: Sequence[Entry], embed: Embed) -> list[Lesson]:
    """With vectors of the other embedder. Where it has none that stands for a text, that is matched exactly only."""
    texts = [entry.text for entry in entries if entry.text]
    made = iter(await embed(texts) if texts else [])
    lessons: list[Lesson] = []
    for entry in entries:
        embedder, vector = next(made) if entry.text else ("", None)
        if vector is None:
            lessons.append(Lesson(replace(entry, text="", embedder=""), None))
        else:
            lessons.append(Lesson(replace(entry, embedder=embedder), vector))
    return lessons
