"""What is freed while Milvus gets another embedder's vectors stays so when they serve."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from millpond_cache.milvus_store import MilvusStore
from millpond_cache.store import Entry, Lesson, Which
from millpond_cli.stack import Stack, free_port_base

HOME = Path(os.environ.get("MILLPOND_HOME") or Path(__file__).resolve().parents[2] / ".millpond")

COLLECTION = "millpond_freed"
NOW = 1_800_000_000.0
VECTOR = np.eye(1, 8, dtype=np.float32)[0]


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(HOME, free_port_base(), only={"milvus"}, run=tmp_path_factory.mktemp("milvus")) as stack:
        yield stack.addresses.milvus


def lesson(source_id: str, *, key: str = "", answered_at: float = NOW, expires_at: float = NOW + 3600) -> Lesson:
    entry = Entry(
        key=key or uuid.uuid4().hex * 2,
        tenant="acme",
        partition="f" * 64,
        embedder="embedder-1",
        text=source_id,
        model="small",
        output="There.",
        finish_reason="stop",
        input_tokens=3,
        output_tokens=2,
        source_id=source_id,
        answered_at=answered_at,
        expires_at=int(expires_at),
    )
    return Lesson(entry, VECTOR)


def kept(milvus: str) -> set[tuple[str, float]]:
    """Of all that serves, the source_id and when it was answered, however lately it was written: the store itself shows
    it some seconds late.
    """
    client = MilvusClient(milvus)
    names = ["source_id", "answered_at"]
    rows = client.query(COLLECTION, filter='key != ""', output_fields=names, consistency_level="Strong")
    client.close()
    return {(row["source_id"], row["answered_at"]) for row in rows}


async def test_what_is_freed_while_another_index_is_built_is_not_in_it(milvus: str) -> None:
    store = MilvusStore(milvus, 8, collection=COLLECTION)
    await store.prepare()
    kinds = ("forgotten", "dropped", "expired", "answered anew", "stays")
    first = {kind: lesson(kind, expires_at=NOW - 1 if kind == "expired" else NOW + 3600) for kind in kinds}
    anew = lesson("answered anew", key=first["answered anew"].entry.key, answered_at=NOW + 10)
    await store.learn(list(first.values()))

    async def embed(texts: Sequence[str]) -> list[tuple[str, NDArray[np.float32] | None]]:
        # These were read from the old collection by now, and are about to be written to the new one.
        await store.forget(Which(source_id="forgotten"))
        await store.forget(Which(source_id="answered anew", older_than=NOW + 1))
        await store.drop([first["dropped"].entry.key])
        await store.forget_expired(NOW)
        if "stays" in texts:
            await store.learn([anew])
        return [("embedder-2", VECTOR) for _ in texts]

    await store.rebuild(embed)
    assert kept(milvus) == {("stays", NOW), ("answered anew", NOW + 10)}
    # What is freed from now on is freed there.
    await store.forget(Which(source_id="stays"))
    assert kept(milvus) == {("answered anew", NOW + 10)}
    await store.close()
