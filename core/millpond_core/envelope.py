"""A request on its way between services: the routed message, and the record that carries it.

What a reader must know of a record before it reads the body travels in headers: tenant, deadline, tier, tokens, model,
batch.
"""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core import telemetry, topics
from millpond_core.batch_name import batch_of
from millpond_core.codec import CONTENT_TYPE, content_type_of, encode
from millpond_core.identity import key_of
from millpond_core.processor import (
    ATTEMPT_HEADER,
    BODY_HEADER,
    NEVER,
    Headers,
    Outgoing,
    Partition,
    Record,
    header,
    mark_of,
)
from millpond_core.validate import answer_tokens, estimated_tokens

TENANT_HEADER = "tenant"
DEADLINE_HEADER = "deadline-ms"
TIER_HEADER = "tier"
TOKENS_HEADER = "tokens"
MODEL_HEADER = "model"
BATCH_HEADER = "batch"
"""On requests with a `metadata.batch`: that."""

NOT_BEFORE_HEADER = "not-before-ms"
"""Milliseconds since 1970 before which the record is not to be worked on."""

REPLAY_HEADER = "replay"
"""On ai.requests: which replay from the dead letters this is, from 1."""

LASTING_HEADERS = (TENANT_HEADER, DEADLINE_HEADER, TIER_HEADER, TOKENS_HEADER, BATCH_HEADER)
"""What is true of a request at every stage. Its model may change on the way."""

TIER_WORDS = {
    request_pb2.TIER_REALTIME: "realtime",
    request_pb2.TIER_STANDARD: "standard",
    request_pb2.TIER_OVERNIGHT: "overnight",
}

_NUMBER = re.compile(rb"[0-9]{1,15}")

TIER_NUMBERS = {word.encode(): int(number) for number, word in TIER_WORDS.items()}

BATCH_TOPICS = {
    request_pb2.TIER_REALTIME: topics.BATCH_REALTIME,
    request_pb2.TIER_STANDARD: topics.BATCH_STANDARD,
    request_pb2.TIER_OVERNIGHT: topics.BATCH_OVERNIGHT,
}


def routed_key(routed: envelope_pb2.Routed) -> bytes:
    return key_of(routed.request.tenant, routed.request.id, routed.replay)


def parse_routed(record: Record) -> envelope_pb2.Routed:
    """The envelope in a record. Raises DecodeError where there is none that a stage could work on."""
    routed = envelope_pb2.Routed.FromString(record.value or b"")
    if not routed.request.id or routed.decision.tier not in TIER_WORDS:
        raise DecodeError("no id or no tier")
    return routed


def routed_record(topic: str, routed: envelope_pb2.Routed, span: Span, body: bytes | None = None) -> Outgoing:
    """The record that carries the envelope on. span: what the next hop's spans hang on.

    body: the hash of the request as it was accepted; only ai.routed needs it, where requests are claimed.
    """
    request, decision = routed.request, routed.decision
    headers: Headers = (
        (TENANT_HEADER, request.tenant.encode()),
        (DEADLINE_HEADER, str(decision.deadline.ToMilliseconds()).encode()),
        (TIER_HEADER, TIER_WORDS[decision.tier].encode()),
        (TOKENS_HEADER, str(estimated_tokens(request) + answer_tokens(request.params)).encode()),
        (MODEL_HEADER, decision.model.encode()),
    )
    if batch := batch_of(request):
        headers = (*headers, (BATCH_HEADER, batch.name.encode()))
    if body is not None:
        headers = (*headers, (BODY_HEADER, body))
    return Outgoing(topic, routed_key(routed), routed.SerializeToString(), telemetry.inject(headers, span))


def forwarded_record(record: Record, topic: str, routed: envelope_pb2.Routed, span: Span) -> Outgoing:
    """The record that carries the envelope from one stage to the next. record: the one that it came in.

    What its headers say of the request still holds, but for the model: tokens are not estimated anew at every hop.
    """
    kept = tuple(each for each in record.headers if each[0] in LASTING_HEADERS)
    headers = (*kept, (MODEL_HEADER, routed.decision.model.encode()))
    return Outgoing(topic, record.key, routed.SerializeToString(), telemetry.inject(headers, span))


def retried_record(record: Record, routed: envelope_pb2.Routed, not_before_s: float, span: Span) -> Outgoing:
    """The same request for its own partition's end, not to be worked on before that time (seconds since 1970)."""
    again = forwarded_record(record, record.partition.topic, routed, span)
    attempt = int(header(record.headers, ATTEMPT_HEADER) or b"0") + 1
    headers = (
        *again.headers,
        (ATTEMPT_HEADER, str(attempt).encode()),
        (NOT_BEFORE_HEADER, str(int(not_before_s * 1000)).encode()),
    )
    return Outgoing(again.topic, again.key, again.value, headers, record.partition.number)


def described(record: Record) -> tuple[int, ...]:
    """What the headers say of a record whose body is not read: a row of `processor.unread.ROW`."""
    found = dict(record.headers)
    deadline, tokens = found.get(DEADLINE_HEADER, b""), found.get(TOKENS_HEADER, b"")
    tenant, batch = found.get(TENANT_HEADER, b""), found.get(BATCH_HEADER)
    return (
        record.offset,
        int(deadline) if _NUMBER.fullmatch(deadline) else NEVER,
        mark_of(record.key or b""),
        mark_of(tenant),
        mark_of(found.get(MODEL_HEADER, b"")),
        mark_of(tenant + b"/" + batch) if batch else 0,
        min(int(tokens), 0xFFFF_FFFF) if _NUMBER.fullmatch(tokens) else 0,
        TIER_NUMBERS.get(found.get(TIER_HEADER, b""), 0),
    )


def as_requested(record: Record) -> Record:
    """The record that a request was sent in, made again from its envelope: where it was, and the request as understood.

    Of a refused request the envelope has kept id, tenant and metadata. The record itself where it is no envelope, or
    was never on a topic.
    """
    try:
        routed = parse_routed(record)
    except DecodeError:
        return record
    if not routed.HasField("origin"):
        return record
    origin = routed.origin
    sent = request_record(origin.topic, routed, record.headers, routed.replay)
    partition = Partition(origin.topic, origin.partition)
    return Record(partition, origin.offset, routed.accepted_at.ToMilliseconds(), sent.key, sent.value, sent.headers)


def request_record(topic: str, routed: envelope_pb2.Routed, headers: Headers, replay: int) -> Outgoing:
    """The request in an envelope as its producer would send it: in its own format, under its own key.

    headers: of the record that the envelope came in; its trace is kept.
    """
    request = routed.request
    kept = tuple(each for each in headers if each[0] in (telemetry.TRACEPARENT, telemetry.TRACESTATE))
    kept = (*kept, (CONTENT_TYPE, content_type_of(routed.format)))
    if replay:
        kept = (*kept, (REPLAY_HEADER, str(replay).encode()))
    # The key is the request's own, not the replay's: all its records must reach one partition.
    return Outgoing(topic, key_of(request.tenant, request.id), encode(request, routed.format), kept)


def not_before_s(record: Record) -> float:
    """Seconds since 1970; 0 where the record may be worked on at once."""
    return int(header(record.headers, NOT_BEFORE_HEADER) or b"0") / 1000
