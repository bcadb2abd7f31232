"""From a dead letter back to a request. Pure.

A record of ai.requests goes back as it came. One of a later topic holds an envelope: it becomes the request again, in
the format that it had. Both keep their trace, and carry in `replay` which replay they are: it is part of the request's
key, so the second life has a claim and a result of its own, and the same dead letter sent twice has one.
"""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import DecodeError

from millpond.v1 import envelope_pb2
from millpond_core import topics
from millpond_core.dead_letter import PREFIX
from millpond_core.envelope import REPLAY_HEADER, request_record
from millpond_core.processor import Headers, Outgoing, Record, header, with_header


class NotReplayable(Exception):
    """The dead letter cannot be a request again. The message says why, for a person."""


def said_of(record: Record, name: str) -> str:
    """What a header of the dead letter says, by its name without the prefix; "" where it is missing."""
    return (header(record.headers, f"{PREFIX}{name}") or b"").decode("utf-8", "replace")


def replayed(record: Record, inlets: Collection[str]) -> Outgoing:
    """The record that sends this dead letter on its way again.

    inlets: topics that requests come in by. Raises NotReplayable.
    """
    if cut := said_of(record, "cut-from-bytes"):
        raise NotReplayable(f"its {cut} bytes were cut: send the request again from where it came")
    topic = said_of(record, "topic")
    if not topic:
        raise NotReplayable(f"it does not say where it died: it has no header {PREFIX}topic")
    original = tuple(each for each in record.headers if not each[0].startswith(PREFIX))
    if topic in topics.ENVELOPES:
        return _from_envelope(record, original)
    if topic not in inlets:
        raise NotReplayable(f"it comes from {topic}, which is no topic that requests come in by")
    replay = replay_of(original) + 1
    # A topic that is bound to a tenant gives its requests that tenant: it goes back there.
    return Outgoing(topic, record.key, record.value, with_header(original, REPLAY_HEADER, str(replay).encode()))


def routed_in(record: Record) -> envelope_pb2.Routed | None:
    """The envelope that a dead letter of a later topic holds; None where there is none."""
    if said_of(record, "topic") not in topics.ENVELOPES:
        return None
    try:
        routed = envelope_pb2.Routed.FromString(record.value or b"")
    except DecodeError:
        return None
    return routed if routed.request.id else None


def replay_of(headers: Headers) -> int:
    """0 where the header is missing or holds no number."""
    value = header(headers, REPLAY_HEADER) or b""
    return int(value) if value.isdigit() and len(value) <= 9 else 0


def _from_envelope(record: Record, original: Headers) -> Outgoing:
    routed = routed_in(record)
    if routed is None:
        raise NotReplayable("no request can be read in it")
    if not routed.request.messages:
        raise NotReplayable(
            "the request was refused before, and its text is not kept: send it again from where it came"
        )
    return request_record(topics.REQUESTS, routed, original, routed.replay + 1)
