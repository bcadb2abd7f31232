"""A dead letter becomes the request again that it was: the same body, format and trace, and one replay more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli.commands.deadletter import body_of, letter_of, newest, one_line
from millpond_cli.printable import printable
from millpond_core import topics
from millpond_core.clock import ManualClock
from millpond_core.codec import decode_request
from millpond_core.dead_letter import dead_letter
from millpond_core.envelope import REPLAY_HEADER, routed_record
from millpond_core.errors import Code
from millpond_core.identity import body_hash
from millpond_core.processor import CONTENT_BYTES, Headers, Outgoing, Partition, Record, header
from millpond_core.replay import NotReplayable, replayed
from millpond_core.settings import TierSettings
from millpond_core.telemetry import TRACEPARENT, Tracing
from millpond_core.validate import Limits
from millpond_router.accept import Accepted, Terms, accept

CONTEXT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
INLETS = (topics.REQUESTS, "ai.requests.acme")
TERMS = Terms(Limits(), 1_000_000, ("auto", "small", "frontier"), TierSettings())


def buried(topic: str, value: bytes | None, *headers: tuple[str, bytes], key: bytes | None = b"acme/one") -> Record:
    """A record of this topic, dead."""
    letter = dead_letter(
        Record(Partition(topic, 1), 41, 1_795_399_200_250, key, value, headers), "cache", Code.ID_CONFLICT, "conflict"
    )
    return Record(Partition(topics.DEADLETTER, 0), 5, 1_795_399_200_350, letter.key, letter.value, letter.headers)


def accepted(outgoing: Outgoing) -> Accepted:
    """What the router makes of what was replayed."""
    record = Record(Partition(outgoing.topic, 2), 7, 1_795_399_201_000, outgoing.key, outgoing.value, outgoing.headers)
    return accept(record, TERMS, "topic", None, ManualClock(1_795_399_201).now())


def trace_of(headers: Headers) -> bytes | None:
    return header(headers, TRACEPARENT)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
requests = st.builds(
    request_pb2.Request,
    id=st.text("abc-#1", min_size=1, max_size=6),
    tenant=st.sampled_from(["acme", "globex"]),
    tier=st.sampled_from([request_pb2.TIER_REALTIME, request_pb2.TIER_STANDARD, request_pb2.TIER_OVERNIGHT]),
    model=st.sampled_from(["auto", "small", "frontier"]),
    messages=st.lists(
        st.builds(request_pb2.Message, role=st.just("user"), content=texts.map(lambda text: f"{text}.")), min_size=1
    ),
    params=st.builds(request_pb2.Params, max_tokens=st.integers(1, 64), temperature=st.sampled_from([0.0, 0.5])),
    metadata=st.dictionaries(texts, texts, max_size=2),
)
formats = st.sampled_from([envelope_pb2.WIRE_FORMAT_JSON, envelope_pb2.WIRE_FORMAT_PROTOBUF])


def envelope_of(request: request_pb2.Request, format: envelope_pb2.WireFormat, replay: int) -> envelope_pb2.Routed:
    routed = envelope_pb2.Routed(request=request, format=format, replay=replay)
    routed.decision.tier = request.tier
    return routed


@given(requests, formats, st.integers(0, 3), st.sampled_from(topics.ENVELOPES))
def test_an_envelope_is_the_request_again(
    request: request_pb2.Request, format: envelope_pb2.WireFormat, replay: int, topic: str
) -> None:
    tracing = Tracing()
    record = routed_record(topic, envelope_of(request, format, replay), tracing.send(topics.REQUESTS, None))
    again = replayed(buried(topic, record.value, *record.headers, key=record.key), INLETS)
    assert again.topic == topics.REQUESTS
    assert trace_of(again.headers) == trace_of(record.headers)
    routed = accepted(again).routed
    assert not routed.HasField("reject")
    assert (routed.request, routed.format, routed.replay) == (request, format, replay + 1)
    assert accepted(again).body == body_hash(request)


@given(st.binary(min_size=1, max_size=40), st.sampled_from(INLETS))
def test_a_record_goes_back_as_it_came_to_where_it_came(value: bytes, topic: str) -> None:
    own = (("content-type", b"application/json"), (TRACEPARENT, CONTEXT), ("mine", b"1"))
    again = replayed(buried(topic, value, *own), INLETS)
    assert again == Outgoing(topic, b"acme/one", value, (*own, (REPLAY_HEADER, b"1")))
    once_more = replayed(buried(topic, again.value, *again.headers), INLETS)
    assert header(once_more.headers, REPLAY_HEADER) == b"2"
    assert trace_of(once_more.headers) == CONTEXT


def test_what_cannot_be_a_request_again_says_why() -> None:
    with pytest.raises(NotReplayable, match="were cut"):
        replayed(buried(topics.REQUESTS, bytes(CONTENT_BYTES + 1)), INLETS)
    with pytest.raises(NotReplayable, match="no request can be read"):
        replayed(buried(topics.ROUTED, b"\xff"), INLETS)
    with pytest.raises(NotReplayable, match=r"ai\.results, which is no topic"):
        replayed(buried(topics.RESULTS, b"{}"), INLETS)
    with pytest.raises(NotReplayable, match="does not say"):
        replayed(Record(Partition(topics.DEADLETTER, 0), 0, 0, None, b"{}", ()), INLETS)
    refused = envelope_of(
        request_pb2.Request(id="one", tenant="acme", tier=request_pb2.TIER_STANDARD), envelope_pb2.WIRE_FORMAT_JSON, 0
    )
    refused.reject.CopyFrom(result_pb2.Error(code=Code.INVALID_PARAMS))
    with pytest.raises(NotReplayable, match="its text is not kept"):
        replayed(buried(topics.ROUTED, refused.SerializeToString()), INLETS)


def test_whose_it_is_is_told_where_it_can_be_read() -> None:
    raw = letter_of(buried(topics.REQUESTS, b'{"id": "one", "tenant": "acme", "tier": 3}', (REPLAY_HEADER, b"2")))
    assert (raw.place, raw.tenant, raw.id, raw.replay) == ("0-5", "acme", "one", 2)
    request = request_pb2.Request(
        id="two", tenant="globex", messages=[request_pb2.Message(role="user", content="hello")]
    )
    enveloped = buried(
        topics.BATCH_STANDARD, envelope_of(request, envelope_pb2.WIRE_FORMAT_JSON, 1).SerializeToString()
    )
    assert (letter_of(enveloped).tenant, letter_of(enveloped).id, letter_of(enveloped).replay) == ("globex", "two", 1)
    assert decode_request(body_of(enveloped).encode(), None, 1 << 20)[0] == request
    unread = letter_of(buried(topics.REQUESTS, b"\x00{"))
    assert (unread.tenant, unread.id) == ("-", "-")
    assert "id_conflict cache" in one_line(unread)


@given(st.text())
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    assert all(each.isprintable() for each in printable(text))
    assert printable("naïve 水車") == "naïve 水車"


def test_the_newest_come_first_and_no_more_than_asked_for() -> None:
    records = [
        Record(Partition(topics.DEADLETTER, 0), offset, at, None, b"", ()) for offset, at in enumerate((3, 1, 2))
    ]
    assert [record.timestamp_ms for record in newest(iter(records), 2)] == [3, 2]
