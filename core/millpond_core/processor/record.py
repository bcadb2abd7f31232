"""What is read from Kafka and what is written to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]

LARGEST_RECORD_BYTES = 4 << 20
"""What every topic takes of one record, and every client is told: four times Kafka's default, for a request of a
megabyte and an answer as long."""

CONTENT_BYTES = LARGEST_RECORD_BYTES - (64 << 10)
"""Of a record's key, value and headers together: the rest is for what Kafka puts around them."""


class Partition(NamedTuple):
    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """timestamp_ms: as the topic keeps it, in milliseconds since 1970."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """partition: None lets the key decide (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def header(headers: Headers, name: str) -> bytes | None:
    """The first header of this name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def with_header(headers: Headers, name: str, value: bytes) -> Headers:
    """headers with this one in place of any of the same name."""
    return (*(each for each in headers if each[0] != name), (name, value))
