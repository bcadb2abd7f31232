"""The store in Milvus, 2.3 to 2.6, with pymilvus."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, fields
from math import floor
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient, DataType, MilvusException
from pymilvus.exceptions import DataNotMatchException, ParamError

from millpond_cache.key_slices import slices
from millpond_cache.partition import MAX_EMBEDDER_BYTES, MAX_TEXT_BYTES, Space
from millpond_cache.reindex import again
from millpond_cache.store import (
    MAX_OUTPUT_BYTES,
    MAX_TAG_BYTES,
    Candidate,
    Embed,
    Entry,
    Kept,
    Lesson,
    StoreRefused,
    StoreUnavailable,
    Which,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

COLLECTION = "millpond_cache_v2"
"""The alias of one collection for all tenants, which are its partition key. Another schema gets another number, and
begins empty. The collections themselves are numbered: "millpond_cache_v2_1" first, and one more for each rebuilding."""

CALL_S = 10.0
"""Seconds of one call whose caller sets no shorter bound."""

CREATION_S = 60.0
"""Seconds to make the collection and load it, on a Milvus that has just started."""

TENANT_PARTITIONS = 16
"""Physical ones, over which tenants are spread by hash; Milvus 2.3 slows down with hundreds."""

HNSW = {"M": 16, "efConstruction": 200}
SEARCH = {"metric_type": "COSINE", "params": {"ef": 64}}
"""20,000 vectors of 384: 3.3 ms at p50 with these (components.md); few candidates are asked for."""

BATCH_ROWS = 500
"""Entries in one upsert: some 10 MB at worst-case answers of 16 KB, under Milvus's 64 MB."""

FIRST_SURROGATE, AFTER_SURROGATES = 0xD800, 0xE000
"""Between them no code point is a character."""

REFUSALS = (1100, 65535)
"""Milvus's codes for what does not become right by trying again: an invalid parameter, and (2.3) data that does not
fit, which it calls unexpected. One that came of something else loses an entry, where trying for ever would lose all."""

# Each failure is raised, and logged by us; pymilvus logs it too, with its traceback.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

_KEPT = [field.name for field in fields(Kept)]
_FIELDS = [field.name for field in fields(Entry)]


class MilvusStore:
    """Implements `Store`. The connection is made by `prepare` and comes back by itself.

    Consistency is bounded: an entry is seen some seconds after it was learned. Strong consistency costs 240 ms a look.
    """

    def __init__(self, address: str, dimension: int, token: str = "", collection: str = COLLECTION) -> None:
        """address: "http://host:19530". dimension: of all vectors. collection: the alias."""
        self._collection = collection
        self._dimension = dimension
        self._client = AsyncMilvusClient(address, token=token, timeout=CALL_S)
        self._no_vector = np.eye(1, dimension, dtype=np.float32)[0]
        """Every row has a vector in Milvus 2.3. No embedder's name is empty, so this one is in no space."""
        self._unfit: str | None = f"the collection {collection} was not looked at yet"
        """Why nothing is to be written: where the vectors have another dimension, what stands there would be lost."""
        self._freed: list[str] | None = None
        """While the collection is rebuilt: conditions of what was freed since that began."""

    async def prepare(self) -> None:
        """Raises StoreUnavailable too where a collection stands that has another dimension; nothing is learned then."""
        if not await self._ask(self._client.has_collection(self._collection)):
            first = f"{self._collection}_1"
            # Of a start that did not come as far as the alias.
            if not await self._ask(self._client.has_collection(first)):
                await self._create(first)
            await self._ask(self._client.create_alias(first, self._collection))
        described = await self._ask(self._client.describe_collection(self._collection))
        dimension = next(
            int(field["params"]["dim"]) for field in described["fields"] if field["type"] == DataType.FLOAT_VECTOR
        )
        if dimension != self._dimension:
            self._unfit = (
                f"the collection {self._collection} has vectors of {dimension} numbers, and cache.dimension is "
                f"{self._dimension}: set it to the embedder's; where that is a new one, run ./millpond cache reindex"
            )
            raise StoreUnavailable(self._unfit)
        await self._ask(self._client.load_collection(self._collection, timeout=CREATION_S))
        self._unfit = None

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        if not keys:
            return {}
        # Not by `ids`: pymilvus puts them between quotes as they are.
        rows = await self._ask(self._client.query(self._collection, filter=_keyed(keys), output_fields=_FIELDS))
        return {row["key"]: _entry(row) for row in rows}

    async def nearest(
        self, space: Space, vectors: Sequence[NDArray[np.float32]], limit: int, now: float
    ) -> list[list[Candidate]]:
        conditions = [f"{name} == {json.dumps(value)}" for name, value in space._asdict().items()]
        found = await self._ask(
            self._client.search(
                self._collection,
                data=list(vectors),
                anns_field="vector",
                filter=" and ".join([*conditions, f"expires_at > {floor(now)}"]),
                limit=limit,
                output_fields=_FIELDS,
                search_params=SEARCH,
            )
        )
        return [[Candidate(_entry(hit["entity"]), float(hit["distance"])) for hit in hits] for hits in found]

    async def learn(self, lessons: Sequence[Lesson]) -> None:
        if self._unfit:
            raise StoreUnavailable(self._unfit)
        rows = [self._row(lesson) for lesson in lessons]
        await self._put(self._collection, rows)

    async def _put(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        for first in range(0, len(rows), BATCH_ROWS):
            batch = list(rows[first : first + BATCH_ROWS])
            # Not upsert: up to 2.3.10 it puts a row into another partition than its partition key's, where no filter
            # by tenant finds it (milvus-io/milvus#30773). A crash in between leaves a miss, and Kafka says it again.
            await self._ask(self._client.delete(collection, filter=_keyed([row["key"] for row in batch])))
            await self._ask(self._client.insert(collection, batch))

    async def count(self, which: Which) -> int:
        rows = await self._ask(
            self._client.query(self._collection, filter=_condition(which), output_fields=["count(*)"])
        )
        return int(rows[0]["count(*)"])

    async def forget(self, which: Which) -> int:
        found = await self.count(which)
        await self._free(_condition(which))
        return found

    async def slice(self, prefix: str) -> list[Kept]:
        rows = await self._ask(self._client.query(self._collection, filter=_beginning(prefix), output_fields=_KEPT))
        return [Kept(**{name: row[name] for name in _KEPT}) for row in rows]

    async def drop(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), BATCH_ROWS):
            await self._free(_keyed(keys[first : first + BATCH_ROWS]))

    async def forget_expired(self, now: float) -> None:
        await self._free(f"expires_at <= {floor(now)}")

    async def _free(self, condition: str) -> None:
        if self._freed is not None:
            self._freed.append(condition)
        await self._ask(self._client.delete(self._collection, filter=condition))

    async def rebuild(self, embed: Embed) -> int:
        """A collection of the other embedder's vectors is built beside the one that serves and takes its alias; then
        the old one is dropped; where something goes wrong before, the new one. What is learned meanwhile comes along,
        and what this store is told to free meanwhile does not.
        """
        described = await self._ask(self._client.describe_alias(self._collection))
        old: str = described["collection_name"]
        new = f"{self._collection}_{int(old.rpartition('_')[2]) + 1}"
        # What an earlier rebuilding left that was cut off.
        if await self._ask(self._client.has_collection(new)):
            await self._ask(self._client.drop_collection(new))
        await self._create(new)
        self._freed = []
        try:
            copied = await self._take_over(old, new, embed)
        finally:
            self._freed = None
        await self._ask(self._client.drop_collection(old))
        logger.info("the collection %s serves in place of %s", new, old, extra={"entries": copied})
        return copied

    async def _take_over(self, old: str, new: str, embed: Embed) -> int:
        """How many entries came along."""
        try:
            copied = await self._copy(old, new, embed)
            await self._ask(self._client.load_collection(new, timeout=CREATION_S))
            await self._ask(self._client.alter_alias(new, self._collection))
        except BaseException:
            await self._client.drop_collection(new)
            raise
        # What was freed since its slice was copied; what was learned since, perhaps in the place of that; and what was
        # freed while this was copied.
        await self._free_again(new)
        copied += await self._copy(old, new, embed)
        await self._free_again(new)
        return copied

    async def _free_again(self, collection: str) -> None:
        for condition in self._freed or ():
            await self._ask(self._client.delete(collection, filter=condition))

    async def _copy(self, old: str, new: str, embed: Embed) -> int:
        """Entries of the old collection that the new one lacks, a slice at a time."""
        await self._ask(self._client.load_collection(new, timeout=CREATION_S))
        copied = 0
        for prefix in slices(await self.count(Which())):
            condition = _beginning(prefix)
            rows = await self._all(old, condition, _FIELDS)
            there = {row["key"] for row in await self._all(new, condition, ["key"])}
            left = [_entry(row) for row in rows if row["key"] not in there]
            for first in range(0, len(left), BATCH_ROWS):
                lessons = await again(left[first : first + BATCH_ROWS], embed)
                await self._put(new, [self._row(lesson) for lesson in lessons])
            copied += len(left)
        return copied

    async def _all(self, collection: str, condition: str, names: list[str]) -> list[dict[str, Any]]:
        """What was written until now, however lately."""
        return await self._ask(
            self._client.query(collection, filter=condition, output_fields=names, consistency_level="Strong")
        )

    def _row(self, lesson: Lesson) -> dict[str, Any]:
        return {**asdict(lesson.entry), "vector": self._no_vector if lesson.vector is None else lesson.vector}

    async def close(self) -> None:
        await self._client.close()

    async def _create(self, name: str) -> None:
        schema = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        text = DataType.VARCHAR
        # Lengths are bytes of UTF-8, four for one character at most.
        schema.add_field("key", text, max_length=64, is_primary=True)
        schema.add_field("tenant", text, max_length=64, is_partition_key=True)
        schema.add_field("partition", text, max_length=64)
        schema.add_field("embedder", text, max_length=MAX_EMBEDDER_BYTES)
        schema.add_field("text", text, max_length=MAX_TEXT_BYTES)
        schema.add_field("model", text, max_length=1024)
        schema.add_field("output", text, max_length=MAX_OUTPUT_BYTES)
        schema.add_field("finish_reason", text, max_length=64)
        schema.add_field("input_tokens", DataType.INT64)
        schema.add_field("output_tokens", DataType.INT64)
        schema.add_field("source_id", text, max_length=1024)
        schema.add_field("answered_at", DataType.DOUBLE)
        schema.add_field("expires_at", DataType.INT64)
        schema.add_field("tag", text, max_length=MAX_TAG_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._dimension)
        index = AsyncMilvusClient.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="COSINE", params=HNSW)
        await self._ask(
            self._client.create_collection(
                name,
                schema=schema,
                index_params=index,
                consistency_level="Bounded",
                num_partitions=TENANT_PARTITIONS,
                timeout=CREATION_S,
            )
        )
        logger.info("made the collection %s in Milvus", name)

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        """What Milvus answers. Raises StoreRefused or StoreUnavailable."""
        try:
            return await call
        except (DataNotMatchException, ParamError) as failure:
            raise StoreRefused(str(failure)) from failure
        except MilvusException as failure:
            if failure.code in REFUSALS:
                raise StoreRefused(failure.message) from failure
            raise StoreUnavailable(failure.message) from failure
        except grpc.RpcError as failure:
            raise StoreUnavailable(str(failure)) from failure


def _keyed(keys: Sequence[str]) -> str:
    return f"key in {json.dumps(list(keys))}"


def _beginning(prefix: str) -> str:
    return f'key like "{prefix}%"' if prefix else _condition(Which())


def _condition(which: Which) -> str:
    """Milvus's expression for it. Every row has a key, so an empty one is of all."""
    conditions = [
        f"{name} == {json.dumps(value, ensure_ascii=False)}"
        for name in ("tenant", "source_id", "tag", "model")
        if (value := getattr(which, name))
    ]
    if which.prefix:
        # Not by `like`: Milvus 2.3 knows no escape for what stands for any text in a pattern.
        conditions.append(f"text >= {json.dumps(which.prefix, ensure_ascii=False)}")
        if end := _after(which.prefix):
            conditions.append(f"text < {json.dumps(end, ensure_ascii=False)}")
    if which.older_than is not None:
        conditions.append(f"answered_at < {which.older_than!r}")
    return " and ".join(conditions) or 'key != ""'


def _after(prefix: str) -> str:
    """The least text that is greater than all that begin so, by code points as by bytes of UTF-8; "" where none is."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(AFTER_SURROGATES if following == FIRST_SURROGATE else following)


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{name: row[name] for name in _FIELDS})
