"""Who a request is: its tenant and id, the key under which it travels, and whether two requests are the same."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from millpond.v1 import request_pb2

NO_TENANT = "default"
"""The tenant of a request that names none and whose producer is bound to none."""

MAX_ID_CHARACTERS = 256
"""An id is a key in Kafka, in the claims and in traces: long enough for a path or two UUIDs, short enough to index."""

_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REPLAY_MARK = re.compile(r"#[0-9]+\Z")


def is_id(text: str) -> bool:
    """Whether a request may have this id. A result for one that may not carries the id that the record gives it."""
    return 1 <= len(text) <= MAX_ID_CHARACTERS and text.isprintable()


def is_tenant(text: str) -> bool:
    """Whether a tenant may have this name. There is no slash in it, since keys are tenant/id."""
    return _TENANT.fullmatch(text) is not None


def key_of(tenant: str, id: str, replay: int = 0) -> bytes:
    """The key of a request on every topic: "tenant/id", and "tenant/id#2" for its second replay.

    No two requests share a key, whatever they hold: a tenant that may not be is quoted, and an id that ends as a
    replay's key does is marked with its own replay, "#0" included.
    """
    mark = f"#{replay}" if replay or _REPLAY_MARK.search(id) else ""
    quoted = tenant if is_tenant(tenant) else quote(tenant, safe="")
    return f"{quoted}/{id}{mark}".encode()


def default_id(topic_id: str, partition: int, offset: int) -> str:
    """The id of a request that names none: that of its record, so reading the record again gives the same.

    topic_id: Kafka's own id of the topic; the name would come back when a topic is deleted and made again.
    """
    return f"{topic_id}-{partition}-{offset}"


def complete(request: request_pb2.Request, fresh_id: str, tenant: str | None = None) -> None:
    """Fill in, in place, what the request leaves out: `body_hash` is of what this leaves, wherever it was accepted.

    fresh_id: in place of an id that is missing or may not be. tenant: the one that the request is bound to, whatever
    it says; without one, a name that is missing or may not be gives way to NO_TENANT.
    """
    if not is_id(request.id):
        request.id = fresh_id
    if tenant is not None or not is_tenant(request.tenant):
        request.tenant = tenant or NO_TENANT
    request.tier = request.tier or request_pb2.TIER_STANDARD
    request.model = request.model or "auto"


def body_hash(request: request_pb2.Request) -> bytes:
    """32 bytes that are the same for the same message, in JSON or protobuf and in any order of its fields.

    Kept with a claim to tell a copy from a conflict. A parameter that is left out and the same parameter at its
    default are two bodies: defaults change.
    """
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
