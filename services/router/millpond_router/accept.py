"""From a record of ai.requests to a request with an id, a tenant and a time, refused or not. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core.codec import CONTENT_TYPE, decode_request, format_of
from millpond_core.envelope import REPLAY_HEADER
from millpond_core.errors import Code, Malformed, Refused
from millpond_core.identity import body_hash, complete, default_id
from millpond_core.processor import Headers, Record, header
from millpond_core.settings import TierSettings
from millpond_core.validate import Limits, has_valid_metadata, validate

LARGEST_REPLAY = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What requests are accepted by. models: every name that a request's `model` may be."""

    limits: Limits
    max_request_bytes: int
    models: Collection[str]
    tiers: TierSettings


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that gets a result.

    routed: without a decision; or refused, with the reason, and of the request no more than id, tenant and metadata.
    tier: as asked, unspecified where it was left out. body: tells a copy from another request of the same id.
    """

    routed: envelope_pb2.Routed
    tier: request_pb2.Tier
    body: bytes

    @property
    def refused(self) -> bool:
        return self.routed.HasField("reject")


def accept(record: Record, terms: Terms, topic_id: str, tenant: str | None, now: float) -> Accepted:
    """The request in the record, refused or not.

    topic_id: Kafka's own id of the topic, of which the id of a request without one is made.
    tenant: the one that the record's topic is bound to. now: seconds since 1970.
    Raises Malformed, not identified, where no result can be addressed: the record is a dead letter.
    """
    content_type = header(record.headers, CONTENT_TYPE)
    refused: Refused | None = None
    body = b""
    try:
        request, _ = decode_request(record.value, content_type, terms.max_request_bytes)
    except Malformed as failure:
        if not failure.identified:
            raise
        refused, body = failure, hashlib.sha256(record.value or b"").digest()
        request = request_pb2.Request(id=failure.id, tenant=failure.tenant, tier=failure.tier)
    else:
        try:
            validate(request, terms.limits, terms.models, now)
        except Refused as failure:
            refused = failure
    tier = request.tier
    complete(request, default_id(topic_id, record.partition.number, record.offset), tenant)
    routed = envelope_pb2.Routed(request=request, format=format_of(content_type), replay=_replay(record.headers))
    routed.accepted_at.FromMilliseconds(record.timestamp_ms)
    routed.origin.topic, routed.origin.partition = record.partition
    routed.origin.offset = record.offset
    accepted = Accepted(routed, tier, body or body_hash(request))
    if refused is not None:
        refuse(accepted, refused, terms)
    return accepted


def refuse(accepted: Accepted, reason: Refused, terms: Terms) -> None:
    """Leave of the envelope what a result of a refused request needs."""
    routed = accepted.routed
    request, decision = routed.request, routed.decision
    decision.tier = request.tier
    if reason.code == Code.DEADLINE_PASSED:
        decision.deadline.CopyFrom(request.deadline)
    else:
        due_ms = routed.accepted_at.ToMilliseconds() + round(terms.tiers.seconds(decision.tier) * 1000)
        decision.deadline.FromMilliseconds(due_ms)
    kept = request_pb2.Request(id=request.id, tenant=request.tenant)
    if has_valid_metadata(request, terms.limits):
        kept.metadata.MergeFrom(request.metadata)
    request.CopyFrom(kept)
    routed.reject.CopyFrom(reason.to_error())


def _replay(headers: Headers) -> int:
    """0 where the header is missing, or holds anything but a number: whoever replays writes one."""
    value = header(headers, REPLAY_HEADER) or b""
    # Longer ones need not be read to be too large.
    number = int(value) if value.isdigit() and len(value) <= 10 else 0
    return number if number <= LARGEST_REPLAY else 0
