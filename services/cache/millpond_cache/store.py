"""The port to what is remembered. Two adapters pass one contract suite: `memory_store` and `milvus_store`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from millpond_cache.partition import Space

MAX_OUTPUT_BYTES = 65_535
"""The longest answer that is kept: what Milvus holds in one field."""


MAX_TAG_BYTES = 256
"""Of a request's tag; a longer one is cut."""


def kept_tag(tag: str) -> str:
    """As much of a tag as is kept."""
    return tag.encode()[:MAX_TAG_BYTES].decode(errors="ignore")


class StoreUnavailable(Exception):
    """The store did not answer. The same call may succeed later."""


class StoreRefused(Exception):
    """The store will never take these entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer of a model. answered_at, expires_at: seconds since 1970, the second a whole number.

    key: of the exact request. text: what was asked; "" where only the exact request may have the answer, and then
    embedder is "" too. model: the configured name of the one that answered. source_id: the request's. tag: of
    its metadata.
    """

    key: str
    tenant: str
    partition: str
    embedder: str
    text: str
    model: str
    output: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    source_id: str
    answered_at: float
    expires_at: int
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Which:
    """Entries that fit in all that is set. prefix: what the question begins with; an entry that is matched exactly only
    has no question to compare. older_than: seconds since 1970, of the answer.
    """

    tenant: str = ""
    source_id: str = ""
    tag: str = ""
    prefix: str = ""
    model: str = ""
    older_than: float | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            self.tenant in ("", entry.tenant)
            and self.source_id in ("", entry.source_id)
            and self.tag in ("", entry.tag)
            and self.model in ("", entry.model)
            and entry.text.startswith(self.prefix)
            and (self.older_than is None or entry.answered_at < self.older_than)
        )


@dataclass(frozen=True, slots=True)
class Lesson:
    """An entry to be kept. vector: float32 [dimension] of L2 norm 1, None where it is matched exactly only."""

    entry: Entry
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What an entry's worth depends on; the fields are the entry's."""

    key: str
    model: str
    input_tokens: int
    output_tokens: int
    answered_at: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """similarity: the cosine of its vector to the asked one, from -1 to 1."""

    entry: Entry
    similarity: float


Embed = Callable[[Sequence[str]], Awaitable[Sequence[tuple[str, NDArray[np.float32] | None]]]]
"""For each text the embedder's version, and its vector; None where it reads only a part of the text."""


class Store(Protocol):
    """All methods but `close` raise StoreUnavailable; none waits longer than its caller lets it."""

    async def prepare(self) -> None:
        """Make what the store needs where it is not there. To be called before all others, and again after trouble."""
        ...

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries with these keys, those that have expired perhaps included."""
        ...

    async def nearest(
        self, space: Space, vectors: Sequence[NDArray[np.float32]], limit: int, now: float
    ) -> list[list[Candidate]]:
        """For each vector at most `limit` entries of the space that have not expired, the nearest first."""
        ...

    async def learn(self, lessons: Sequence[Lesson]) -> None:
        """Keep these, in place of entries with the same keys; no two of them have one key.

        It may take seconds until they are seen. Raises StoreRefused too, and then none may be kept.
        """
        ...

    async def count(self, which: Which) -> int:
        """How many entries fit, as far as they are seen yet."""
        ...

    async def forget(self, which: Which) -> int:
        """Free the entries that fit, and say how many there were. It may take seconds until they are seen no more."""
        ...

    async def rebuild(self, embed: Embed) -> int:
        """Give every entry a vector of another embedder: how many entries there were. What is there already is given
        meanwhile, and what is freed meanwhile by this store stays so. Raises StoreRefused too, and what `embed` raises;
        then all is as it was.
        """
        ...

    async def slice(self, prefix: str) -> list[Kept]:
        """The entries whose keys begin so; prefix: hexadecimal digits, or none for all."""
        ...

    async def drop(self, keys: Sequence[str]) -> None:
        """Free the entries with these keys. It may take seconds until they are seen no more."""
        ...

    async def forget_expired(self, now: float) -> None:
        """Free what expired entries take."""
        ...

    async def close(self) -> None: ...
