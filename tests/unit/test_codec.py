"""Requests and results on the wire: what comes in is one message or a named refusal, and what goes out is stable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1.envelope_pb2 import WIRE_FORMAT_JSON, WIRE_FORMAT_PROTOBUF, WIRE_FORMAT_UNSPECIFIED
from millpond.v1.request_pb2 import Request
from millpond.v1.result_pb2 import Result
from millpond_core import json_codec
from millpond_core.codec import READ_LIMIT_BYTES, content_type_of, decode_request, encode, format_of
from millpond_core.errors import Code, Malformed
from millpond_core.identity import body_hash

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
MAX_BYTES = 1 << 20
M = TypeVar("M", bound=Message)


def kind_of(name: str) -> type[Message]:
    return Request if name.startswith("request") else Result


def text_message(name: str) -> Message:
    return text_format.Parse((GOLDEN / f"{name}.txtpb").read_text("utf-8"), kind_of(name)())


@pytest.mark.parametrize("name", NAMES)
def test_golden_json_is_the_golden_message(name: str) -> None:
    document = (GOLDEN / f"{name}.json").read_bytes()
    assert json_codec.decode(document, kind_of(name)) == text_message(name)
    # The order of the fields is part of what a person reads: compare the text, without its white space.
    assert json_codec.encode(text_message(name)) == orjson.dumps(orjson.loads(document))


@pytest.mark.parametrize("name", NAMES)
def test_golden_bytes_are_the_golden_message(name: str) -> None:
    """Records written by an older version stay readable: no field changes its number or type."""
    wire = bytes.fromhex((GOLDEN / f"{name}.hex").read_text("ascii"))
    assert text_message(name).SerializeToString(deterministic=True) == wire
    assert kind_of(name).FromString(wire) == text_message(name)


# In JSON minus zero is zero: adding zero makes it so.
numbers = (st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)).map(lambda number: number + 0.0)


def values_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return fields_of(field.message_type)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return {
        FieldDescriptor.TYPE_STRING: st.text(max_size=20),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_DOUBLE: numbers,
        FieldDescriptor.TYPE_UINT32: st.integers(0, (1 << 32) - 1),
        FieldDescriptor.TYPE_UINT64: st.integers(0, (1 << 64) - 1),
    }[field.type]


def fields_of(message: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """What the constructor of any valid message of this kind takes."""
    if message is Timestamp.DESCRIPTOR:
        seconds = st.integers(json_codec.FIRST_SECOND, json_codec.LAST_SECOND)
        return st.fixed_dictionaries({"seconds": seconds, "nanos": st.integers(0, 999_999_999)})
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in message.fields:
        if (entry := json_codec.map_entry(field)) is not None:
            value = values_of(entry.fields_by_name["value"])
            fields[field.name] = st.dictionaries(st.text(max_size=8), value, max_size=3)
        else:
            fields[field.name] = st.lists(values_of(field), max_size=3) if field.is_repeated else values_of(field)
    return st.fixed_dictionaries({}, optional=fields)


def messages_of(kind: type[M]) -> st.SearchStrategy[M]:
    def build(fields: dict[str, Any]) -> M:
        return kind(**fields)

    return fields_of(cast("Descriptor", kind.DESCRIPTOR)).map(build)


requests = messages_of(Request)
results = messages_of(Result)


@settings(deadline=None)
@given(requests | results)
def test_json_gives_back_the_message(message: Message) -> None:
    encoded = json_codec.encode(message)
    assert json_codec.decode(encoded, type(message)) == message
    assert json.loads(encoded) == orjson.loads(encoded)


@settings(deadline=None)
@given(requests, st.randoms(use_true_random=False))
def test_a_body_is_the_same_in_either_format_and_in_any_order(request_: Request, random: Any) -> None:
    fields = list(orjson.loads(json_codec.encode(request_)).items())
    random.shuffle(fields)
    document = b" " + orjson.dumps(dict(fields), option=orjson.OPT_INDENT_2)
    from_json, json_format = decode_request(document, None, MAX_BYTES)
    from_protobuf, protobuf_format = decode_request(
        request_.SerializeToString() or b"\x0a\x00", "application/protobuf", MAX_BYTES
    )
    assert (json_format, protobuf_format) == (WIRE_FORMAT_JSON, WIRE_FORMAT_PROTOBUF)
    assert body_hash(from_json) == body_hash(from_protobuf) == body_hash(request_)


names = st.sampled_from([*Request.DESCRIPTOR.fields_by_name, "role", "content", "max_tokens", "mode", "x\n"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
).map(lambda document: json.dumps(document).encode())
content_types = (
    st.sampled_from([None, "application/json", "application/protobuf", b"application/x-protobuf"]) | st.binary()
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid request in either format with some bytes written over."""
    request_ = draw(requests)
    value = bytearray(draw(st.sampled_from([request_.SerializeToString(), json_codec.encode(request_)])) or b"{}")
    for place, byte in draw(st.lists(st.tuples(st.integers(0, len(value) - 1), st.integers(0, 255)), max_size=3)):
        value[place] = byte
    return bytes(value)


@settings(deadline=None)
@given(st.none() | st.binary(max_size=64) | documents | damaged(), content_types, st.integers(0, 100))
def test_any_record_is_a_request_or_malformed(value: bytes | None, content_type: Any, max_bytes: int) -> None:
    try:
        request_, _ = decode_request(value, content_type, max_bytes)
    except Malformed as failure:
        refused = failure
    else:
        # What was let in has a form in JSON, so nothing later can fail to write it.
        encoded = json_codec.encode(request_)
        assert json_codec.encode(json_codec.decode(encoded, Request)) == encoded
        return
    assert str(refused)
    assert refused.identified or not (refused.id or refused.tenant)


WRONG = [
    (b'{"params": {"top_q": 1}}', Code.UNKNOWN_FIELD, "params.top_q: unknown field; allowed are max_tokens, "),
    (b'{"tpyo": null}', Code.UNKNOWN_FIELD, "tpyo: unknown field"),
    (b'{"\\u0000": 1}', Code.UNKNOWN_FIELD, "'\\x00': unknown field"),
    (b'{"maxTokens": 1}', Code.UNKNOWN_FIELD, "maxTokens: "),
    (b'{"id": 7}', Code.INVALID_FIELD, "id: must be a string"),
    (b'{"tier": "fast"}', Code.INVALID_FIELD, "tier: must be one of realtime, standard, overnight"),
    (b'{"tier": "unspecified"}', Code.INVALID_FIELD, "tier: "),
    (b'{"tier": 1}', Code.INVALID_FIELD, "tier: "),
    (b'{"messages": {}}', Code.INVALID_FIELD, "messages: must be a list"),
    (b'{"messages": [null]}', Code.INVALID_FIELD, "messages[0]: must be an object"),
    (b'{"messages": [{}, {"content": ["x"]}]}', Code.INVALID_FIELD, "messages[1].content: must be a string"),
    (b'{"params": []}', Code.INVALID_FIELD, "params: must be an object"),
    (b'{"params": {"max_tokens": true}}', Code.INVALID_FIELD, "params.max_tokens: must be a whole number from 0 to "),
    (b'{"params": {"max_tokens": 1.0}}', Code.INVALID_FIELD, "params.max_tokens: "),
    (b'{"params": {"max_tokens": -1}}', Code.INVALID_FIELD, "params.max_tokens: "),
    (b'{"params": {"max_tokens": 4294967296}}', Code.INVALID_FIELD, "params.max_tokens: "),
    (b'{"params": {"seed": 18446744073709551616}}', Code.INVALID_FIELD, "params.seed: "),
    (b'{"params": {"temperature": "hot"}}', Code.INVALID_FIELD, "params.temperature: must be a number"),
    (b'{"params": {"temperature": false}}', Code.INVALID_FIELD, "params.temperature: "),
    (b'{"params": {"stop": ["a", 1]}}', Code.INVALID_FIELD, "params.stop[1]: must be a string"),
    (b'{"metadata": {"a": null}}', Code.INVALID_FIELD, "metadata.a: must be a string"),
    (b'{"deadline": "2026-11-23"}', Code.INVALID_FIELD, "deadline: must be a time"),
    (b'{"deadline": "2026-11-23T02:00:00"}', Code.INVALID_FIELD, "deadline: "),
    (b'{"deadline": "2026-02-30T02:00:00Z"}', Code.INVALID_FIELD, "deadline: "),
    (b'{"deadline": "0001-01-01T00:00:00+01:00"}', Code.INVALID_FIELD, "deadline: must be a time of the years"),
    (b'{"deadline": 1795399200}', Code.INVALID_FIELD, "deadline: "),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code", "message"), WRONG)
def test_a_wrong_field_is_named_and_the_request_can_be_answered(value: bytes, code: Code, message: str) -> None:
    identity = b'{"tenant": "acme", ' + (b"" if b'"id"' in value else b'"id": "a-1", ') + value[1:]
    with pytest.raises(Malformed) as refused:
        decode_request(identity, None, MAX_BYTES)
    assert refused.value.code == code
    assert str(refused.value).startswith(message)
    assert refused.value.identified
    assert (refused.value.id, refused.value.tenant) == ("" if b'"id": 7' in value else "a-1", "acme")


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff\xfe", b"not json", b"[]", b"null", b'"text"', b"7", b"[" * 100_000, b'{"a":' * 100_000,
     b'{"id": "a", "params": {"temperature": NaN}}', b'{"id": "\\ud800"}'],
)  # fmt: skip
def test_what_is_no_object_cannot_be_answered(value: bytes | None) -> None:
    with pytest.raises(Malformed) as refused:
        decode_request(value, "application/json", MAX_BYTES)
    assert refused.value.code == Code.MALFORMED
    assert not refused.value.identified


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        # Field 99, a varint; then the same in the one message of `messages`.
        (b"\x98\x06\x01", Code.UNKNOWN_FIELD, "field 99: unknown field; allowed are 1 (id), "),
        (b"\x32\x03\x98\x06\x01", Code.UNKNOWN_FIELD, "messages[0].field 99: unknown field"),
        (b"\x18\x09", Code.INVALID_FIELD, "tier: must be one of TIER_UNSPECIFIED, "),
        (Request(deadline=Timestamp(nanos=-1)), Code.INVALID_FIELD, "deadline: must be a time"),
        (Request(deadline=Timestamp(seconds=1 << 40)), Code.INVALID_FIELD, "deadline: must be a time"),
        (Request(params={"top_p": float("nan")}), Code.INVALID_FIELD, "params.top_p: must be a number"),
    ],
)
def test_protobuf_is_held_to_the_same_rules(wrong: bytes | Request, code: Code, message: str) -> None:
    rest = wrong.SerializeToString() if isinstance(wrong, Request) else wrong
    with pytest.raises(Malformed) as refused:
        decode_request(
            Request(id="a-1", tenant="acme").SerializeToString() + rest, b"application/x-protobuf", MAX_BYTES
        )
    assert (refused.value.code, refused.value.identified) == (code, True)
    assert str(refused.value).startswith(message)
    assert (refused.value.id, refused.value.tenant) == ("a-1", "acme")


def test_bytes_that_are_no_protobuf_cannot_be_answered() -> None:
    with pytest.raises(Malformed) as refused:
        decode_request(b"\x0a\xff", "application/protobuf", MAX_BYTES)
    assert (refused.value.code, refused.value.identified) == (Code.MALFORMED, False)


@pytest.mark.parametrize("content_type", [None, "application/protobuf"])
@pytest.mark.parametrize(("characters", "identified"), [(MAX_BYTES, True), (READ_LIMIT_BYTES, False)])
def test_a_large_record_is_refused_under_its_own_id(
    content_type: str | None, characters: int, identified: bool
) -> None:
    request_ = Request(messages=[{"role": "user", "content": "x" * characters}], id="a-1", tenant="acme")
    value = request_.SerializeToString() if content_type else json_codec.encode(request_)
    with pytest.raises(Malformed) as refused:
        decode_request(value, content_type, MAX_BYTES)
    assert (refused.value.code, refused.value.identified) == (Code.REQUEST_TOO_LARGE, identified)
    assert (refused.value.id, refused.value.tenant) == (("a-1", "acme") if identified else ("", ""))


def test_the_largest_record_is_taken() -> None:
    value = json_codec.encode(Request(id="a-1"))
    assert decode_request(value, None, len(value))[0].id == "a-1"
    with pytest.raises(Malformed):
        decode_request(value, None, len(value) - 1)


@pytest.mark.parametrize("id", ["x" * 257, "a\nb", ""])
def test_an_id_that_cannot_be_used_is_not_read(id: str) -> None:
    with pytest.raises(Malformed) as refused:
        decode_request(orjson.dumps({"id": id, "tenant": "a/b", "x": 1}), None, MAX_BYTES)
    assert (refused.value.identified, refused.value.id, refused.value.tenant) == (True, "", "")


def test_a_content_type_names_the_format() -> None:
    for json_type in (None, "", "application/json", b"application/json", "Application/JSON; charset=utf-8"):
        assert format_of(json_type) == WIRE_FORMAT_JSON
    for protobuf_type in ("application/protobuf", b"application/x-protobuf"):
        assert format_of(protobuf_type) == WIRE_FORMAT_PROTOBUF
    for other in ("text/plain", b"\xff\x00", "application/jsonl"):
        assert format_of(other) == WIRE_FORMAT_UNSPECIFIED
        with pytest.raises(Malformed, match="content-type") as refused:
            decode_request(b'{"id": "a-1"}', other, MAX_BYTES)
        assert (refused.value.identified, refused.value.id) == (True, "a-1")


def test_a_result_goes_out_as_its_request_came_in() -> None:
    result = Result(id="a-1", timings_ms={"z": 1, "a": 2})
    assert Result.FromString(encode(result, WIRE_FORMAT_PROTOBUF)) == result
    assert json_codec.decode(encode(result, WIRE_FORMAT_JSON), Result) == result
    assert encode(result, WIRE_FORMAT_UNSPECIFIED) == encode(result, WIRE_FORMAT_JSON)
    for format in (WIRE_FORMAT_JSON, WIRE_FORMAT_PROTOBUF):
        assert format_of(content_type_of(format)) == format


@settings(deadline=None)
@given(results)
def test_a_result_has_every_field_at_its_top(result: Result) -> None:
    fields = list(Result.DESCRIPTOR.fields_by_name)
    assert list(orjson.loads(json_codec.encode(result))) == fields[: None if result.replay else -1]


def test_a_double_that_is_no_number_is_null() -> None:
    assert orjson.loads(json_codec.encode(Result(timings_ms={"total": float("nan")})))["timings_ms"] == {"total": None}
