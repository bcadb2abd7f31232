"""One row of a model's batch: a request, and the equal ones that wait for the same answer."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace

from millpond.v1 import request_pb2
from millpond_batcher.backlog import Waiting
from millpond_batcher.quality import Checks
from millpond_batcher.sampling import max_tokens
from millpond_core.batch_name import BATCH
from millpond_core.same_request import shared_key
from millpond_core.stage import Job
from millpond_core.validate import estimated_tokens

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
    # A batch's first answers are judged for its rest: a row of two batches would be judged for one of them.
    alike = (CHECKS_NAME,) if checks is None else (CHECKS_NAME, BATCH)
    row = Row([job], shared_key(request, *alike), checks=checks)
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


def prefix_of(request: request_pb2.Request) -> bytes:
    """Of everything before the last message: a system prompt, or the conversation until now. Empty without any."""
    if len(request.messages) < 2:
        return b""
    digest = hashlib.blake2b(digest_size=8)
    for message in request.messages[:-1]:
        digest.update(message.SerializeToString(deterministic=True))
    return digest.digest()
