"""When waiting requests are sent to the engine, and which together. Pure.

Requests of one tier gather in a window. It closes when it is full, when one has waited long enough, or when one must
start now to be done before its deadline. What is in a closed window goes as soon as there is room, the earliest
deadline first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD

Item = TypeVar("Item")

Reason = Literal["full", "waited", "deadline"]
"""Why a window closed."""

TIERS = (TIER_REALTIME, TIER_STANDARD, TIER_OVERNIGHT)
"""Who goes first, where no deadline is near."""


@dataclass(frozen=True)
class Waiting(Generic[Item]):
    """One request that waits. Times in seconds since 1970; run_s: seconds that its row is expected to run."""

    item: Item
    tier: request_pb2.Tier
    arrived_s: float
    deadline_s: float
    run_s: float


@dataclass(frozen=True)
class Window:
    """rows: the most in one batch. wait_s: seconds that the first of them waits for the others."""

    rows: int
    wait_s: float


@dataclass(frozen=True)
class Policy:
    """windows: one for each tier. margin_s: seconds before its deadline at which a row is to be done.

    reserved_rows: places that only realtime rows take. refill_rows: places that the bulk (the other tiers) leaves empty
    before more of it is sent, so that a busy engine is filled by few large batches.
    """

    windows: Mapping[request_pb2.Tier, Window]
    margin_s: float
    reserved_rows: int
    refill_rows: int


@dataclass(frozen=True)
class Engine:
    """rows: how many run at the same time at most; realtime and bulk: how many of each do."""

    rows: int
    realtime: int
    bulk: int

    @property
    def free(self) -> int:
        return self.rows - self.realtime - self.bulk


@dataclass(frozen=True)
class Batch(Generic[Item]):
    tier: request_pb2.Tier
    reason: Reason
    members: Sequence[Waiting[Item]]
    """The earliest deadline first."""


@dataclass(frozen=True)
class Wait:
    """Nothing to send for so many seconds; None: until a request comes or a row ends."""

    seconds: float | None


@dataclass(frozen=True)
class _Closing(Generic[Item]):
    tier: request_pb2.Tier
    waiting: Sequence[Waiting[Item]]
    gathered_s: float
    """When the window is full, or has waited."""
    urgent_s: float
    """The latest start that keeps every deadline."""
    full: bool


def plan(waiting: Iterable[Waiting[Item]], engine: Engine, policy: Policy, now: float) -> Batch[Item] | Wait:
    """The next batch, or how long there is none.

    A batch is of one tier and has at most as many rows as are free. Realtime goes first, then what a deadline presses,
    then the tiers in their order.
    Source: earliest deadline first (Liu and Layland 1973).
    """
    bulk_rows = engine.rows - min(policy.reserved_rows, engine.rows - 1)
    closings = [
        _closing(those, policy, now, most=engine.rows if tier == TIER_REALTIME else bulk_rows)
        for tier, those in _by_tier(waiting).items()
    ]
    for closing in sorted(closings, key=lambda each: _rank(each, now)):
        urgent = closing.urgent_s <= now
        if not urgent and closing.gathered_s > now:
            continue
        room = engine.free
        if closing.tier != TIER_REALTIME:
            room = min(room, bulk_rows - engine.bulk)
            # Not what is free, but what the bulk itself leaves: or a steady trickle of realtime would hold it back.
            if not urgent and bulk_rows - engine.bulk < min(policy.refill_rows, bulk_rows):
                continue
        if room > 0:
            reason: Reason = "deadline" if urgent else "full" if closing.full else "waited"
            size = min(room, policy.windows[closing.tier].rows)
            members = heapq.nsmallest(size, closing.waiting, key=lambda each: each.deadline_s)
            return Batch(closing.tier, reason, members)
    ahead = [at for closing in closings for at in (closing.gathered_s, closing.urgent_s) if at > now]
    return Wait(min(ahead) - now if ahead else None)


def run_s(prompt_tokens: int, max_tokens: int, *, prompt_tokens_per_s: float, row_tokens_per_s: float) -> float:
    """Seconds that a row of a full engine runs, if its answer is as long as it may be."""
    return prompt_tokens / prompt_tokens_per_s + max_tokens / row_tokens_per_s


def retry_after_s(attempts: int, first_s: float, last_s: float, chance: float) -> float:
    """Seconds until the next call, after so many: doubled each time up to last_s.

    chance: from 0 to 1, spreads them from half of that to one and a half times, so that rows that failed together do
    not all come back together.
    """
    return min(first_s * 2 ** min(attempts - 1, 32), last_s) * (0.5 + chance)


def _by_tier(waiting: Iterable[Waiting[Item]]) -> dict[request_pb2.Tier, list[Waiting[Item]]]:
    queues: dict[request_pb2.Tier, list[Waiting[Item]]] = {}
    for each in waiting:
        queues.setdefault(each.tier, []).append(each)
    return queues


def _closing(waiting: Sequence[Waiting[Item]], policy: Policy, now: float, most: int) -> _Closing[Item]:
    """waiting: one tier's, not empty. most: rows of the tier that the engine takes."""
    tier = waiting[0].tier
    window = policy.windows[tier]
    full = len(waiting) >= min(window.rows, most)
    gathered_s = now if full else min(each.arrived_s for each in waiting) + window.wait_s
    urgent_s = min(each.deadline_s - each.run_s for each in waiting) - policy.margin_s
    return _Closing(tier, waiting, gathered_s, urgent_s, full)


def _rank(closing: _Closing[Item], now: float) -> tuple[int, float]:
    if closing.tier == TIER_REALTIME:
        return 0, 0
    return (1, closing.urgent_s) if closing.urgent_s <= now else (2, TIERS.index(closing.tier))
