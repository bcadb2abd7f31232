"""The contract's messages as JSON: snake_case names, integers as numbers, enums as words, times as RFC 3339.

protobuf's own JSON mapping would give camelCase, quoted integers and TIER_REALTIME. One reader and one writer per
message are built from its descriptor, once; a message is then a dictionary's walk away from orjson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast

import orjson
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from millpond.v1 import request_pb2
from millpond_core.errors import Code, Malformed
from millpond_core.identity import is_id, is_tenant

M = TypeVar("M", bound=Message)
Read = Callable[[Any], Any]
"""From JSON to what a message's constructor takes. Raises FieldError."""
Write = Callable[[Any], Any]
"""From a field's value to what orjson takes."""

WHOLE = frozenset(f"millpond.v1.{name}" for name in ("Result", "Output", "Error", "Usage", "CacheHit", "Message"))
"""Always written with every field, so that a reader needs no defaults. In other messages an unset field is left out."""

LEFT_OUT = frozenset({"millpond.v1.Result.replay"})
"""Left out of a whole message too: hardly any result is a replay's."""

EXACT_INTEGER = 1 << 53
"""Below it a double that is whole is one integer and no other."""

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""0001-01-01 and the end of 9999, in seconds since 1970: what RFC 3339 can say and Timestamp may hold."""

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NO_TIME = 'must be a time with its offset from UTC (RFC 3339), as "2026-11-23T02:00:00Z"'
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_INTEGERS = {FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1), FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1)}


class FieldError(Exception):
    """A value is not what its field takes. The path grows from the inside out while the error rises."""

    def __init__(self, reason: str, code: Code = Code.INVALID_FIELD) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.path = ""

    def within(self, step: str) -> FieldError:
        """The same error, seen from one level further out: step is a field's name or "[3]"."""
        self.path = step if not self.path else step + ("" if self.path[0] == "[" else ".") + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else f"the record's value {self.reason}"


def decode(value: bytes, kind: type[M]) -> M:
    """A message of this kind from one JSON object; null is the same as left out.

    Raises Malformed: not UTF-8, not JSON or no object (not identified); an unknown field or a wrong value, with the
    path to it (identified, with id and tenant where the object has them). Of a name given twice the last one counts.
    """
    given = parse(value)
    try:
        return kind(**reader_of(kind.DESCRIPTOR)(given))
    except FieldError as wrong:
        id, tenant = identity_in(given)
        tier = tier_in(given)
        raise Malformed(wrong.code, str(wrong), identified=True, id=id, tenant=tenant, tier=tier) from wrong


def encode(message: Message) -> bytes:
    """The message as compact JSON; the same message gives the same bytes. A double that is no number gives null."""
    return orjson.dumps(writer_of(message.DESCRIPTOR)(message))


def parse(value: bytes) -> dict[str, Any]:
    """One JSON object. Raises Malformed, not identified."""
    try:
        given = orjson.loads(value)
    except orjson.JSONDecodeError as failure:
        raise Malformed(Code.MALFORMED, f"the record's value is not JSON in UTF-8: {failure}") from failure
    if not isinstance(given, dict):
        raise Malformed(Code.MALFORMED, f"the record's value must be a JSON object, not {type(given).__name__}")
    return cast("dict[str, Any]", given)


def identity_in(given: dict[str, Any]) -> tuple[str, str]:
    """Id and tenant of an object that may be wrong elsewhere; empty where they are missing or could not be used."""
    id, tenant = given.get("id"), given.get("tenant")
    return (
        id if isinstance(id, str) and is_id(id) else "",
        tenant if isinstance(tenant, str) and is_tenant(tenant) else "",
    )


def tier_in(given: dict[str, Any]) -> request_pb2.Tier:
    """The tier of such an object; unspecified where it names none."""
    word = given.get("tier")
    known = words_of(request_pb2.Tier.DESCRIPTOR)
    number = known.get(word, 0) if isinstance(word, str) else 0
    return cast("request_pb2.Tier", number)


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of key and value that stands behind a map; None for every other field."""
    message = field.message_type
    return message if message is not None and message.GetOptions().map_entry else None


def words_of(enum: EnumDescriptor) -> dict[str, int]:
    """JSON's words for the values of an enum, without the unspecified one: {"realtime": 1, ...}."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values[1:]}


@cache
def reader_of(message: Descriptor) -> Read:
    """Reads an object into the keyword arguments of this message's constructor."""
    if message is Timestamp.DESCRIPTOR:
        return _read_time
    readers = {field.name: _field_reader(field) for field in message.fields}

    def read(value: Any) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, item in _entries(value):
            reader = readers.get(name)
            if reader is None:
                reason = f"unknown field; allowed are {', '.join(readers)}"
                raise FieldError(reason, Code.UNKNOWN_FIELD).within(_shown(name))
            if item is not None:
                try:
                    given[name] = reader(item)
                except FieldError as wrong:
                    raise wrong.within(name) from None
        return given

    return read


def _field_reader(field: FieldDescriptor) -> Read:
    if (entry := map_entry(field)) is not None:
        return _map_reader(_value_reader(entry.fields_by_name["value"]))
    read = _value_reader(field)
    return _list_reader(read) if field.is_repeated else read


def _value_reader(field: FieldDescriptor) -> Read:
    if field.message_type is not None:
        return reader_of(field.message_type)
    if field.enum_type is not None:
        return _word_reader(words_of(field.enum_type))
    if field.type in _INTEGERS:
        return _integer_reader(*_INTEGERS[field.type])
    return {
        FieldDescriptor.TYPE_STRING: _read_text,
        FieldDescriptor.TYPE_DOUBLE: _read_number,
        FieldDescriptor.TYPE_BOOL: _read_bool,
    }[field.type]


def _read_text(value: Any) -> str:
    if type(value) is not str:
        raise FieldError("must be a string")
    return value


def _read_number(value: Any) -> float:
    # A bool is an int in Python, but not to whoever wrote the request: hence no isinstance, here and below.
    if type(value) is not float and type(value) is not int:
        raise FieldError("must be a number")
    return float(value)


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise FieldError("must be true or false")
    return value


def _integer_reader(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise FieldError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _word_reader(words: dict[str, int]) -> Read:
    def read(value: Any) -> int:
        number = words.get(value) if type(value) is str else None
        if number is None:
            raise FieldError(f"must be one of {', '.join(words)}")
        return number

    return read


def _read_time(value: Any) -> dict[str, int]:
    match = _RFC_3339.fullmatch(value) if type(value) is str else None
    if match is None:
        raise FieldError(_NO_TIME)
    try:
        since = datetime.fromisoformat((match[1] + match[3]).upper()) - _EPOCH
    except ValueError:
        raise FieldError(_NO_TIME) from None
    seconds = since.days * 86_400 + since.seconds
    # Year 1 with an offset to the east begins in year 0.
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        raise FieldError("must be a time of the years 1 to 9999 in UTC")
    return {"seconds": seconds, "nanos": int((match[2] or "0").ljust(9, "0"))}


def _list_reader(read_item: Read) -> Read:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise FieldError("must be a list")
        items: list[Any] = []
        for item in cast("list[Any]", value):
            try:
                items.append(read_item(item))
            except FieldError as wrong:
                raise wrong.within(f"[{len(items)}]") from None
        return items

    return read


def _map_reader(read_item: Read) -> Read:
    def read(value: Any) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for name, item in _entries(value):
            try:
                items[name] = read_item(item)
            except FieldError as wrong:
                raise wrong.within(_shown(name)) from None
        return items

    return read


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    if type(value) is not dict:
        raise FieldError("must be an object")
    return cast("dict[str, Any]", value).items()


def _shown(name: str) -> str:
    """A name that somebody sent, fit for an error message."""
    return name if name.isprintable() and 1 <= len(name) <= 64 else f"{name[:64]!a}"


@cache
def writer_of(message: Descriptor) -> Write:
    """Writes a message into a dictionary, its fields in the order of their numbers."""
    if message is Timestamp.DESCRIPTOR:
        return Timestamp.ToJsonString
    writers = {field: (field.name, _field_writer(field)) for field in message.fields}
    whole = message.full_name in WHOLE
    always = {f.name: _unset(f) for f in message.fields if whole and f.full_name not in LEFT_OUT}

    def write(value: Message) -> dict[str, Any]:
        written = always.copy()
        for field, item in value.ListFields():
            name, writer = writers[field]
            written[name] = writer(item)
        return written

    return write


def _unset(field: FieldDescriptor) -> Any:
    if field.is_repeated:
        return [] if map_entry(field) is None else {}
    return None if field.has_presence or field.enum_type is not None else field.default_value


def _field_writer(field: FieldDescriptor) -> Write:
    if (entry := map_entry(field)) is not None:
        write_item = _value_writer(entry.fields_by_name["value"])
        # protobuf's maps have no order of their own.
        return lambda value: {name: write_item(item) for name, item in sorted(value.items())}
    write = _value_writer(field)
    return (lambda value: [write(item) for item in value]) if field.is_repeated else write


def _value_writer(field: FieldDescriptor) -> Write:
    if field.message_type is not None:
        return writer_of(field.message_type)
    if field.enum_type is not None:
        return {number: word for word, number in words_of(field.enum_type).items()}.__getitem__
    return _number if field.type == FieldDescriptor.TYPE_DOUBLE else _as_it_is


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < EXACT_INTEGER else value


def _as_it_is(value: Any) -> Any:
    return value
