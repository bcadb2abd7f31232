"""Records with a header whose name is not UTF-8: Kafka takes them, and a single one would stop aiokafka for ever.

A batch that aiokafka cannot read for that is read again by its slower reader in Python, made lenient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    _DefaultRecordBatchPy,  # pyright: ignore[reportPrivateUsage]
)
from aiokafka.record.memory_records import (
    _MemoryRecordsPy,  # pyright: ignore[reportPrivateUsage]
)


def install() -> None:
    """From here on, every consumer of this process reads such records."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords(_MemoryRecordsPy):  # pyright: ignore[reportGeneralTypeIssues]
    """What one fetch brought: a row of batches."""

    def next_batch(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        written = self._next_slice
        batch = super().next_batch()
        return None if batch is None or written is None else Batch(batch, written)


class Batch:
    """A batch as it was read, and as it was written. Stands for the former in all but the reading of its records."""

    def __init__(self, batch: Any, written: memoryview) -> None:
        self._batch = batch
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):
            return LenientBatch(self._written)


class LenientBatch(_DefaultRecordBatchPy):  # pyright: ignore[reportGeneralTypeIssues]
    """Decodes names whatever they hold; nothing else in a record is decoded."""

    _buffer: bytearray

    def _read_msg(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not isinstance(self._buffer, Names):
            self._buffer = Names(self._buffer)
        return super()._read_msg()


class Names(bytearray):
    """Slices of it decode whatever they hold: what is not UTF-8 is written as \\xff."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return Names(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
