"""An envelope remembers the request that it holds, and where that came from."""

from __future__ import annotations

import pytest

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond.v1.envelope_pb2 import WIRE_FORMAT_JSON, WIRE_FORMAT_PROTOBUF, WireFormat
from millpond_core import topics
from millpond_core.codec import CONTENT_TYPE, decode_request
from millpond_core.envelope import REPLAY_HEADER, as_requested, forwarded_record, routed_record
from millpond_core.processor import Partition, Record, header
from millpond_core.telemetry import TRACEPARENT, Tracing

PLACE = Partition("ai.requests", 2)


def on_the_way(routed: envelope_pb2.Routed) -> Record:
    sent = routed_record(topics.ROUTED, routed, Tracing().send(topics.ROUTED, None), b"body")
    return Record(Partition(topics.ROUTED, 0), 7, 0, sent.key, sent.value, (*sent.headers, (TRACEPARENT, b"00-1-1-01")))


@pytest.mark.parametrize("format", [WIRE_FORMAT_JSON, WIRE_FORMAT_PROTOBUF])
def test_a_request_is_made_again_as_it_was_sent(format: WireFormat) -> None:
    routed = envelope_pb2.Routed(
        request=request_pb2.Request(
            id="a", tenant="acme", messages=[request_pb2.Message(role="user", content="What is a mill?")]
        ),
        decision=result_pb2.Decision(tier=request_pb2.TIER_STANDARD),
        origin=envelope_pb2.Origin(topic="ai.requests", partition=2, offset=41),
        format=format,
        replay=3,
    )
    routed.accepted_at.FromMilliseconds(1_795_399_200_250)
    again = as_requested(on_the_way(routed))
    assert (again.partition, again.offset, again.timestamp_ms) == (PLACE, 41, 1_795_399_200_250)
    assert again.key == b"acme/a"
    assert header(again.headers, TRACEPARENT) is not None
    assert header(again.headers, REPLAY_HEADER) == b"3"
    assert decode_request(again.value, header(again.headers, CONTENT_TYPE), 1000) == (routed.request, format)


def test_what_was_never_on_a_topic_stays_as_it_is() -> None:
    routed = envelope_pb2.Routed(
        request=request_pb2.Request(id="a"), decision=result_pb2.Decision(tier=request_pb2.TIER_STANDARD)
    )
    for record in (on_the_way(routed), Record(PLACE, 0, 0, None, b"\xff", ())):
        assert as_requested(record) is record


@pytest.mark.parametrize("batch", ["", "night"])
def test_what_goes_on_to_another_stage_and_model_says_what_a_new_envelope_would(batch: str) -> None:
    request = request_pb2.Request(id="a", tenant="acme", messages=[request_pb2.Message(role="user", content="Why?")])
    if batch:
        request.metadata["batch"] = batch
    routed = envelope_pb2.Routed(request=request, decision=result_pb2.Decision(tier=request_pb2.TIER_STANDARD))
    routed.decision.deadline.FromMilliseconds(1_795_399_200_250)
    here = on_the_way(routed)
    routed.decision.model = "large"
    span = Tracing().send(topics.FRONTIER, None)
    sent, anew = forwarded_record(here, topics.FRONTIER, routed, span), routed_record(topics.FRONTIER, routed, span)
    assert dict(sent.headers) == dict(anew.headers)
    assert (sent.topic, sent.key, sent.value) == (anew.topic, anew.key, anew.value)
