"""From a record of ai.requests to a request, and from a result to a record of ai.results.

content-type  none, application/json                     → JSON
              application/protobuf, application/x-protobuf → protobuf
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from millpond.v1 import control_pb2, feedback_pb2, request_pb2, result_pb2
from millpond.v1.envelope_pb2 import (
    WIRE_FORMAT_JSON,
    WIRE_FORMAT_PROTOBUF,
    WIRE_FORMAT_UNSPECIFIED,
    WireFormat,
)
from millpond_core import json_codec
from millpond_core.errors import Code, Malformed
from millpond_core.identity import is_id, is_tenant
from millpond_core.json_codec import FieldError
from millpond_core.processor.record import LARGEST_RECORD_BYTES

M = TypeVar("M", bound=Message)

CONTENT_TYPE = "content-type"
"""The record header that names the format, of a request and of its result."""

PROTOBUF = ((CONTENT_TYPE, b"application/protobuf"),)
"""The headers of a record that holds protobuf."""

READ_LIMIT_BYTES = LARGEST_RECORD_BYTES
"""What the broker lets through on ai.requests: up to here a request that is too large is still read for its id."""

CONTROL_LIMIT_BYTES = 4096
"""A record of ai.control: an id, a tenant and their names."""

_FORMATS = {
    "": WIRE_FORMAT_JSON,
    "application/json": WIRE_FORMAT_JSON,
    "application/protobuf": WIRE_FORMAT_PROTOBUF,
    "application/x-protobuf": WIRE_FORMAT_PROTOBUF,
}


def format_of(content_type: str | bytes | None) -> WireFormat:
    """The format that a content-type names; WIRE_FORMAT_UNSPECIFIED for one that is not known."""
    text = content_type.decode("latin-1") if isinstance(content_type, bytes) else content_type or ""
    # "application/json; charset=utf-8" is JSON too.
    return _FORMATS.get(text.partition(";")[0].strip().lower(), WIRE_FORMAT_UNSPECIFIED)


def decode_request(
    value: bytes | None, content_type: str | bytes | None, max_bytes: int
) -> tuple[request_pb2.Request, WireFormat]:
    """The request in a record's value, and how it was written.

    content_type: the record's header as it came.
    max_bytes: the largest value that is served.
    Raises Malformed for everything else, whatever the bytes are: identified, with the id and tenant that it names,
    where they are an object. An id or tenant that could not be used is left empty.
    """
    if not value:
        raise Malformed(Code.MALFORMED, "the record has no value: send a request as its value")
    format = format_of(content_type)
    if format == WIRE_FORMAT_UNSPECIFIED:
        known = ", ".join(name for name in _FORMATS if name)
        raise _unread(value, format, Code.MALFORMED, f"the header content-type must be one of {known}, or left out")
    if len(value) > max_bytes:
        reason = f"the record's value has {len(value)} bytes and {max_bytes} are taken: send less text, or split it"
        raise _unread(value, format, Code.REQUEST_TOO_LARGE, reason)
    if format == WIRE_FORMAT_JSON:
        return json_codec.decode(value, request_pb2.Request), format
    return _decode_protobuf(value), format


def decode_control(value: bytes | None, content_type: str | bytes | None) -> control_pb2.Control:
    """What a record of ai.control says. Raises Malformed."""
    format = format_of(content_type)
    if not value or len(value) > CONTROL_LIMIT_BYTES or format == WIRE_FORMAT_UNSPECIFIED:
        most = f"at most {CONTROL_LIMIT_BYTES} bytes of JSON or protobuf, as the header content-type says"
        raise Malformed(Code.MALFORMED, f"the record's value must be {most}")
    if format == WIRE_FORMAT_JSON:
        return json_codec.decode(value, control_pb2.Control)
    control = _parse_protobuf(value, control_pb2.Control)
    try:
        _check(control)
    except FieldError as wrong:
        raise Malformed(wrong.code, str(wrong)) from wrong
    return control


def decode_feedback(value: bytes | None, content_type: str | bytes | None) -> feedback_pb2.Feedback:
    """The judgement in a record of ai.feedback. Raises Malformed."""
    format = format_of(content_type)
    if format == WIRE_FORMAT_JSON:
        return json_codec.decode(value or b"", feedback_pb2.Feedback)
    feedback = _parse_protobuf(value or b"", feedback_pb2.Feedback)
    if format == WIRE_FORMAT_UNSPECIFIED:
        raise Malformed(Code.MALFORMED, "the header content-type must be application/json or application/protobuf")
    return feedback


def encode(message: request_pb2.Request | result_pb2.Result, format: WireFormat) -> bytes:
    """A result, or a request again, as the request was written; JSON where that was not understood."""
    if format == WIRE_FORMAT_PROTOBUF:
        return message.SerializeToString(deterministic=True)
    return json_codec.encode(message)


def content_type_of(format: WireFormat) -> bytes:
    """The value of a result's header content-type."""
    return b"application/protobuf" if format == WIRE_FORMAT_PROTOBUF else b"application/json"


def _decode_protobuf(value: bytes) -> request_pb2.Request:
    request = _parse_protobuf(value, request_pb2.Request)
    try:
        _check(request)
    except FieldError as wrong:
        id, tenant = _identity_of(request)
        tier = _tier_of(request)
        raise Malformed(wrong.code, str(wrong), identified=True, id=id, tenant=tenant, tier=tier) from wrong
    return request


def _parse_protobuf(value: bytes, kind: type[M]) -> M:
    try:
        return kind.FromString(value)
    except DecodeError as failure:
        name = kind.DESCRIPTOR.full_name
        reason = f"the record's value is not a {name} in protobuf, as its content-type says it is"
        raise Malformed(Code.MALFORMED, reason) from failure


def _identity_of(request: request_pb2.Request) -> tuple[str, str]:
    return request.id if is_id(request.id) else "", request.tenant if is_tenant(request.tenant) else ""


def _tier_of(request: request_pb2.Request) -> request_pb2.Tier:
    """Protobuf lets numbers through that are no tier."""
    return request.tier if request.tier in request_pb2.Tier.values() else request_pb2.TIER_UNSPECIFIED


def _unread(value: bytes, format: WireFormat, code: Code, reason: str) -> Malformed:
    """What to raise for a record that is not decoded, with its id and tenant where it is an object all the same."""
    if len(value) > READ_LIMIT_BYTES:
        return Malformed(code, reason)
    try:
        if format == WIRE_FORMAT_PROTOBUF:
            request = _parse_protobuf(value, request_pb2.Request)
            (id, tenant), tier = _identity_of(request), _tier_of(request)
        else:
            given = json_codec.parse(value)
            (id, tenant), tier = json_codec.identity_in(given), json_codec.tier_in(given)
    except Malformed:
        return Malformed(code, reason)
    return Malformed(code, reason, identified=True, id=id, tenant=tenant, tier=tier)


def _check(message: Message) -> None:
    """Refuse what protobuf's parser lets through and JSON has no word for. Raises FieldError."""
    if unknown := UnknownFieldSet(message):
        allowed = ", ".join(f"{field.number} ({field.name})" for field in message.DESCRIPTOR.fields)
        reason = f"unknown field; allowed are {allowed}"
        raise FieldError(reason, Code.UNKNOWN_FIELD).within(f"field {unknown[0].field_number}")
    if isinstance(message, Timestamp):
        if not (
            json_codec.FIRST_SECOND <= message.seconds <= json_codec.LAST_SECOND and 0 <= message.nanos < 1_000_000_000
        ):
            raise FieldError("must be a time of the years 1 to 9999, with 0 to 999999999 nanoseconds")
        return
    for field, value in message.ListFields():
        try:
            _check_field(field, value)
        except FieldError as wrong:
            raise wrong.within(field.name) from None


def _check_field(field: FieldDescriptor, value: Any) -> None:
    if field.enum_type is not None and value not in field.enum_type.values_by_number:
        raise FieldError(f"must be one of {', '.join(known.name for known in field.enum_type.values)}")
    if field.type == FieldDescriptor.TYPE_DOUBLE and not math.isfinite(value):
        raise FieldError("must be a number, neither infinite nor NaN")
    if field.message_type is None or json_codec.map_entry(field) is not None:
        return
    if not field.is_repeated:
        _check(value)
        return
    for index, item in enumerate(value):
        try:
            _check(item)
        except FieldError as wrong:
            raise wrong.within(f"[{index}]") from None
