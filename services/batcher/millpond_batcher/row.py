"""One row of a model's batch: a request, and the equal ones that wait for the same answer."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace

from millpond.v1 import request_pb2, result_pb2
from millpond_batcher.backlog import Waiting
from millpond_batcher.quality import Checks
from millpond_batcher.sampling import max_tokens
from millpond_core.result import Answer
from millpond_core.stage import Job
from millpond_core.validate import estimated_tokens

SHARED = "batch.same_request"
"""The reason of an answer that was made for an equal request; its detail is that one's id."""

CHECKS_NAME = "checks"
"""The metadata's name for the set of checks that a request wants."""


@dataclass(eq=False)
class Row:
    """jobs: the first is the one that the model is asked for. task: while it runs.

    key: of the requests that may join it; None where none may.
    """

    jobs: list[Job]
    key: bytes | None
    waiting: Waiting[Row] = field(init=False)
    task: asyncio.Task[None] | None = None
    checks: Checks | None = None
    again: bool = False
    """Whether its first answer failed a check."""

    @property
    def first(self) -> Job:
        return self.jobs[0]

    @property
    def urgent(self) -> bool:
        return self.waiting.tier == request_pb2.TIER_REALTIME


def row_of(job: Job, context_tokens: int, checks: Checks | None, now: float) -> Row:
    """checks: that its answer has to pass. now: when it came, seconds since 1970."""
    request = job.routed.request
    row = Row([job], shared_key(request), checks=checks)
    row.waiting = Waiting(
        row,
        request.tenant,
        job.routed.decision.tier,
        now,
        job.deadline_s,
        estimated_tokens(request),
        max_tokens(request, context_tokens),
        prefix_of(request),
    )
    return row


def pressing(one: Waiting[Row], other: Waiting[Row]) -> Waiting[Row]:
    """What the first's row must do to keep the promises of both."""
    # Realtime is the first tier.
    return replace(one, tier=min(one.tier, other.tier), deadline_s=min(one.deadline_s, other.deadline_s))


def shared_key(request: request_pb2.Request) -> bytes | None:
    """Equal for requests of one tenant that may have one answer; None for one that wants its own.

    Who asks for other words each time (a temperature and no seed), or for none but the model's own answer to this
    request (`bypass`, `refresh`), is not given another's.
    """
    params = request.params
    if request.cache.mode not in (request_pb2.CACHE_MODE_UNSPECIFIED, request_pb2.CACHE_MODE_USE):
        return None
    if params.temperature > 0 and not params.HasField("seed"):
        return None
    asked = request_pb2.Request(tenant=request.tenant, messages=request.messages, params=params)
    if CHECKS_NAME in request.metadata:
        asked.metadata[CHECKS_NAME] = request.metadata[CHECKS_NAME]
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()


def prefix_of(request: request_pb2.Request) -> bytes:
    """Of everything before the last message: a system prompt, or the conversation until now. Empty without any."""
    if len(request.messages) < 2:
        return b""
    digest = hashlib.blake2b(digest_size=8)
    for message in request.messages[:-1]:
        digest.update(message.SerializeToString(deterministic=True))
    return digest.digest()


def shared_answer(answer: Answer, source: Job, job: Job) -> Answer:
    """The answer that the source's request had from the model, for an equal one: it costs nothing again."""
    hit = result_pb2.CacheHit(kind="exact", similarity=1.0, source_id=source.routed.request.id)
    reason = result_pb2.Reason(code=SHARED, detail=source.routed.request.id)
    job.routed.decision.reasons.append(reason)
    served_by = result_pb2.ServedBy(route=result_pb2.ROUTE_CACHE, model=answer.served_by.model, cache=hit)
    return Answer(answer.output, served_by, answer.usage)
