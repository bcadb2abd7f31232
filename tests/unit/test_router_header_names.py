"""Any header's name can be read, and records without strange names are read as aiokafka reads them."""

from __future__ import annotations

from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.header_names import LenientRecords

MARK = "\x01name\x01"
"""Stands where a strange name is to be: the builder takes text only."""

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3)
RECORDS = st.lists(
    st.tuples(st.none() | st.binary(max_size=8), st.none() | st.binary(max_size=80), HEADERS), min_size=1
)


def batch_of(records: list[Any], compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for offset, (key, value, headers) in enumerate(records):
        assert builder.append(offset, 1_795_399_200_250, key, value, headers) is not None
    return bytes(builder.build())


def read(records: Any) -> list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    found: list[Any] = []
    while records.has_next():
        batch = records.next_batch()
        found.extend((each.offset, each.key, each.value, list(each.headers)) for each in batch)
    return found


@given(st.lists(RECORDS, min_size=1, max_size=3), st.sampled_from([0, 1]))
def test_it_reads_as_aiokafka_does(batches: list[Any], compression: int) -> None:
    written = b"".join(batch_of(records, compression) for records in batches)
    assert read(LenientRecords(written)) == read(MemoryRecords(written))


@given(RECORDS, RECORDS, st.binary(min_size=len(MARK), max_size=len(MARK)))
def test_any_name_is_read_and_nothing_else_is_changed(before: Any, after: Any, name: bytes) -> None:
    strange = (b"key", b"value", [("first", b"1"), (MARK, b"2"), ("last", None)])
    written = batch_of([*before, strange, *after]).replace(MARK.encode(), name)
    found = read(LenientRecords(written))
    assert [each[1:3] for each in found] == [each[:2] for each in (*before, strange, *after)]
    headers = found[len(before)][3]
    assert headers == [("first", b"1"), (name.decode("utf-8", "backslashreplace"), b"2"), ("last", None)]
    assert [each[3] for each in found[len(before) + 1 :]] == [each[2] for each in after]


def test_the_names_of_a_batch_say_of_it_what_aiokafka_needs() -> None:
    written = batch_of([(None, b"value", [])])
    lenient, strict = LenientRecords(written).next_batch(), MemoryRecords(written).next_batch()
    assert strict is not None
    for name in ("base_offset", "next_offset", "is_control_batch", "is_transactional", "producer_id"):
        assert getattr(lenient, name) == getattr(strict, name)
    assert lenient.validate_crc()
