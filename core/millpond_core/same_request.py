"""Requests that may have one answer. Pure."""

from __future__ import annotations

import hashlib

from millpond.v1 import request_pb2, result_pb2
from millpond_core.result import Answer
from millpond_core.stage import Job

SHARED = "batch.same_request"
"""The reason of an answer that was made for an equal request; its detail is that one's id."""


def may_share(request: request_pb2.Request) -> bool:
    """Whether another's answer may serve it: not where it asks for other words each time (a temperature and no seed),
    or for none but the model's own answer (`bypass`, `refresh`).
    """
    params = request.params
    mode = request.cache.mode
    return mode in (request_pb2.CACHE_MODE_UNSPECIFIED, request_pb2.CACHE_MODE_USE) and (
        params.temperature <= 0 or params.HasField("seed")
    )


def shared_key(request: request_pb2.Request, *also: str) -> bytes | None:
    """Equal for requests of one tenant that may have one answer; None for one that wants its own.

    also: names in the metadata that must be equal too.
    """
    if not may_share(request):
        return None
    asked = request_pb2.Request(tenant=request.tenant, messages=request.messages, params=request.params)
    for name in also:
        if name in request.metadata:
            asked.metadata[name] = request.metadata[name]
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()


def shared_answer(answer: Answer, source: Job, job: Job) -> Answer:
    """The answer that the source's request had from the model, for an equal one: it costs nothing again."""
    hit = result_pb2.CacheHit(kind="exact", similarity=1.0, source_id=source.routed.request.id)
    reason = result_pb2.Reason(code=SHARED, detail=source.routed.request.id)
    job.routed.decision.reasons.append(reason)
    served_by = result_pb2.ServedBy(route=result_pb2.ROUTE_CACHE, model=answer.served_by.model, cache=hit)
    return Answer(answer.output, served_by, answer.usage)
