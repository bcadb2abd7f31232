"""Which hits by meaning are also asked of the model, as which request, and whether its answer says the same. Pure."""

from __future__ import annotations

import hashlib

from google.protobuf.timestamp_pb2 import Timestamp

from millpond.v1 import audit_pb2, envelope_pb2, request_pb2, result_pb2
from millpond_core.identity import key_of

REASON = "cache.sample"
"""Of the decision by which a sampled request goes to its model."""

SAME = 0.75
"""The cosine of two answers from which they count as saying the same. As weak as the model: of the shipped one's
answers to 300 near pairs of Quora 55 % lie under it where both ask the same, and 56 % where they do not
(training/cache/judge.py measures it): of that model's hits it tells nothing, and accuracy.py weighs it so."""


def is_sampled(request: request_pb2.Request, share: float) -> bool:
    """The same for the same request, and for `share` of all requests."""
    digest = hashlib.sha256(b"sample " + key_of(request.tenant, request.id)).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def sample_request(
    asked: request_pb2.Request, embedding: envelope_pb2.Embedding | None, sample: audit_pb2.Sample, now: float
) -> envelope_pb2.Routed:
    """The same question for the overnight tier, under an id of its own; its result goes to ai.audit, not to the asker.

    Its model, route and deadline are the caller's to fill in. now: seconds since 1970.
    """
    id = f"sample-{hashlib.sha256(key_of(asked.tenant, asked.id)).hexdigest()[:32]}"
    request = request_pb2.Request(
        id=id,
        tenant=asked.tenant,
        tier=request_pb2.TIER_OVERNIGHT,
        model=asked.model,
        messages=asked.messages,
        params=asked.params,
        # Neither a hit again, nor an equal request's answer.
        cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_REFRESH, ttl_s=asked.cache.ttl_s),
    )
    decision = result_pb2.Decision(tier=request_pb2.TIER_OVERNIGHT, reasons=[result_pb2.Reason(code=REASON)])
    accepted_at = Timestamp()
    accepted_at.FromNanoseconds(int(now * 1e9))
    return envelope_pb2.Routed(
        request=request,
        decision=decision,
        embedding=embedding,
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
        accepted_at=accepted_at,
        sample=sample,
    )


def says_the_same(given: str, fresh: str, cosine: float) -> bool:
    """given: the answer from the cache. fresh: the model's own. cosine: of the two."""
    return " ".join(given.split()) == " ".join(fresh.split()) or cosine >= SAME
