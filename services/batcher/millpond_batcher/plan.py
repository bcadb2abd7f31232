"""When waiting requests are sent to the engine, and which together. No clock, no I/O.

Requests of one tier (and of one length, where the engine pads) gather in a window. It closes when it has its rows or
its tokens, when one has waited long enough, or when one must start now to be done before its deadline. Who goes first:

    realtime ─▶ what must start now ─▶ standard ─▶ overnight, in its hours or where the engine has little else to do
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Generic, Literal, Protocol, TypeVar

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.backlog import Backlog, Drawn, Due, Group, Item, Room, Waiting
from millpond_batcher.cost_model import Cost

Reason = Literal["full", "waited", "deadline", "suspects"]
"""Why a window closed; suspects run apart from it (suspects.py)."""

TIERS = (TIER_REALTIME, TIER_STANDARD, TIER_OVERNIGHT)
"""Who goes first, where no deadline is near."""

SLOTS = 20
"""Deadlines within a twentieth of a tier's usual time count as equal: those with the same prefix then go together."""

MOST_PADDING = 0.1
"""Share of a padded batch that is padding, at most: the shortest row of a bucket has nine tenths of the longest."""


@dataclass(frozen=True)
class Window:
    """rows, tokens: the most in one batch. wait_s: seconds that the first of them waits for the others."""

    rows: int
    wait_s: float
    tokens: int = 1 << 31


@dataclass(frozen=True)
class Hours:
    """From one time of the day to another; over midnight where the end is not after the beginning."""

    begin: time
    end: time

    def contains(self, at: time) -> bool:
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end


@dataclass(frozen=True)
class Tenant:
    """weight: of its share in the engine. rows: by tier, how many may be in the engine at the same time."""

    weight: float = 1.0
    rows: Mapping[request_pb2.Tier, int] = field(default_factory=dict[request_pb2.Tier, int])


@dataclass(frozen=True)
class Policy:
    """windows, usual_s: one for each tier; usual_s are the seconds that a tier has where no deadline is named.

    margin_s: seconds before its deadline at which a row is to be done. reserved_rows: places that only realtime rows
    take. refill_rows: places that the bulk (the other tiers) leaves empty before more of it is sent, so that a busy
    engine is filled by few large batches. pads: whether the engine pads rows to the longest of their batch.
    off_peak, zone: the hours, and whose, in which overnight requests go after standard ones. idle_share: of the
    engine's rows; while realtime and standard take less, overnight requests go too. quantum: tokens of a tenant's turn.
    """

    windows: Mapping[request_pb2.Tier, Window]
    usual_s: Mapping[request_pb2.Tier, float]
    margin_s: float
    reserved_rows: int
    refill_rows: int
    pads: bool = False
    off_peak: Sequence[Hours] = ()
    zone: tzinfo = UTC
    idle_share: float = 0.5
    tenants: Mapping[str, Tenant] = field(default_factory=dict[str, Tenant])
    quantum: int = 2048


@dataclass(frozen=True)
class Engine:
    """rows: how many run at the same time at most, and tokens of theirs. running: how many of each tenant and tier do.

    used_tokens: prompts and longest answers of what runs. tiers: whose requests may go there, and whose the rows are.
    """

    rows: int
    running: Mapping[tuple[str, request_pb2.Tier], int]
    tokens: int = 1 << 31
    used_tokens: int = 0
    tiers: Collection[request_pb2.Tier] = TIERS

    def of_tiers(self, *tiers: request_pb2.Tier) -> int:
        return sum(count for (_, tier), count in self.running.items() if tier in tiers)

    @property
    def bulk(self) -> int:
        return self.of_tiers(TIER_STANDARD, TIER_OVERNIGHT)

    @property
    def free(self) -> int:
        return self.rows - self.of_tiers(*self.tiers)


class Occupied(Protocol):
    """A replica of an engine. tokens: of the rows that run there; free: rows that it may have besides."""

    tokens: int

    @property
    def free(self) -> int: ...


R = TypeVar("R", bound=Occupied)


@dataclass(frozen=True)
class Batch(Generic[Item]):
    tier: request_pb2.Tier
    reason: Reason
    members: Sequence[Waiting[Item]]


@dataclass(frozen=True)
class Wait:
    """Nothing to send for so many seconds; None: until a request comes or a row ends."""

    seconds: float | None


@dataclass(frozen=True)
class _Closing:
    """gathered_s: when the window is full, or has waited. start_s: the latest start that keeps every deadline.

    goes_first: a tenant that did not take more than its turn has something that must start now.
    """

    group: Group
    gathered_s: float
    start_s: float
    full: bool
    goes_first: bool


def backlog_of(
    policy: Policy,
    cost: Callable[[request_pb2.Tier], Cost],
    rows: int,
    replicas: int,
    items: type[Item],  # noqa: ARG001
) -> Backlog[Item]:
    """An empty one, of such items. cost: a tier's latest; after it has changed, `reprice` the backlog.

    rows: of a replica that is full, by which requests are priced.
    """

    def latest_start_s(waiting: Waiting[Item]) -> float:
        run_s = cost(waiting.tier).run_s(waiting.prompt_tokens, waiting.max_tokens, rows)
        return waiting.deadline_s - run_s - policy.margin_s

    def work_s(waiting: Waiting[Item]) -> float:
        return cost(waiting.tier).mean_s(waiting.prompt_tokens, waiting.max_tokens, rows) / (rows * replicas)

    return Backlog(
        bucket_of=bucket_of if policy.pads else lambda _: 0,
        latest_start_s=latest_start_s,
        work_s=work_s,
        # Nobody who waits at the screen is passed over for a prefix.
        slot_s={tier: usual_s / SLOTS for tier, usual_s in policy.usual_s.items() if tier != TIER_REALTIME},
        weights={name: tenant.weight for name, tenant in policy.tenants.items()},
        quantum=policy.quantum,
    )


def bucket_of(tokens: int) -> int:
    """Lengths of which the shortest is at least nine tenths of the longest have one bucket."""
    return math.floor(math.log(max(tokens, 1)) / -math.log(1 - MOST_PADDING))


def plan(backlog: Backlog[Item], engine: Engine, policy: Policy, now: float) -> Batch[Item] | Wait:
    """The next batch, or how long there is none. What is in the batch is taken out of the backlog.

    A batch is of one group, fits into the rows and the tokens that are free, and keeps to its tenants' quotas.
    now: seconds since 1970.
    Source: earliest deadline first (Liu and Layland 1973) within a tenant; between tenants deficit round robin.
    """
    due = backlog.due(now, policy.margin_s)
    groups = [group for group in backlog.groups() if group.tier in engine.tiers]
    closings = [_closing(backlog, group, engine, policy, now) for group in groups]
    opening_s = now if _is_off_peak(policy, now) else _next_off_peak(policy, now)
    for closing in sorted(closings, key=lambda each: _rank(backlog, each, due)):
        tier = closing.group.tier
        must = closing.start_s <= now or (tier != TIER_REALTIME and _is_due(backlog, closing, due))
        held = tier == TIER_OVERNIGHT and opening_s > now and not _is_idle(engine, policy)
        if not must and (held or closing.gathered_s > now):
            continue
        room = _room(tier, engine, policy)
        # Not what is free, but what the bulk itself leaves: or a steady trickle of realtime would hold it back.
        refilling = tier != TIER_REALTIME and engine.bulk > 0 and not must
        if room.rows <= 0 or (refilling and _bulk_rows(engine, policy) - engine.bulk < policy.refill_rows):
            continue
        drawn = _draw(backlog, closing, room, now)
        if drawn.members:
            reason: Reason = "deadline" if must else "full" if closing.full else "waited"
            return Batch(tier, reason, drawn.members)
        if drawn.blocked:
            # Whatever went past it would take the tokens that it waits for.
            break
    ahead = [due.next_s, backlog.next_sum_s, *(at for each in closings for at in (each.gathered_s, each.start_s))]
    if any(each.group.tier == TIER_OVERNIGHT for each in closings):
        ahead.append(opening_s)
    nearest = min((at for at in ahead if now < at < math.inf), default=None)
    return Wait(None if nearest is None else nearest - now)


def fits(waiting: Waiting[Item], engine_tokens: int, policy: Policy) -> bool:
    """Whether any batch can hold the request: what does not fit must not be put into the backlog."""
    return waiting.tokens <= min(engine_tokens, policy.windows[waiting.tier].tokens)


def best_for(tokens: int, replicas: Iterable[R], engine_tokens: int) -> R:
    """Which of at least one is to have a row of so many tokens: one that has room for it, and the most places."""
    return max(replicas, key=lambda each: (each.tokens + tokens <= engine_tokens, each.free, -each.tokens))


def retry_after_s(attempts: int, first_s: float, last_s: float, chance: float) -> float:
    """Seconds until the next call, after so many: doubled each time up to last_s.

    chance: from 0 to 1, spreads them from half of that to one and a half times, so that rows that failed together do
    not all come back together.
    """
    return min(first_s * 2 ** min(attempts - 1, 32), last_s) * (0.5 + chance)


def _closing(backlog: Backlog[Item], group: Group, engine: Engine, policy: Policy, now: float) -> _Closing:
    window = policy.windows[group.tier]
    most = engine.rows if group.tier == TIER_REALTIME else _bulk_rows(engine, policy)
    full = backlog.rows(group) >= min(window.rows, most) or backlog.tokens(group) >= min(window.tokens, engine.tokens)
    arrived_s = backlog.first_arrival_s(group)
    # What comes from the future came before the clock was set back.
    gathered_s = now if full or arrived_s > now else arrived_s + window.wait_s
    start_s = backlog.first_start_s(group)
    return _Closing(group, gathered_s, start_s, full, start_s <= now and backlog.is_pressed(group, now))


def _is_due(backlog: Backlog[Item], closing: _Closing, due: Due) -> bool:
    return backlog.first_deadline_s(closing.group) <= due.until_s


def _rank(backlog: Backlog[Item], closing: _Closing, due: Due) -> tuple[int, float]:
    if closing.group.tier == TIER_REALTIME:
        return 0, 0
    if closing.goes_first:
        return 1, closing.start_s
    if _is_due(backlog, closing, due):
        return 2, backlog.first_deadline_s(closing.group)
    return 3 + TIERS.index(closing.group.tier), closing.gathered_s


def _draw(backlog: Backlog[Item], closing: _Closing, room: Room, now: float) -> Drawn[Item]:
    """What must start now, and the window's others in what room is left."""
    if not closing.goes_first:
        return backlog.draw(closing.group, room)
    first = backlog.draw_pressed(closing.group, room, now)
    taken = Counter(member.tenant for member in first.members)

    def left_of(tenant: str) -> float:
        return room.of_tenant(tenant) - taken[tenant]

    left = Room(room.rows - len(first.members), room.tokens - sum(member.tokens for member in first.members), left_of)
    if first.blocked or left.rows <= 0 or not backlog.rows(closing.group):
        return first
    rest = backlog.draw(closing.group, left)
    return Drawn([*first.members, *rest.members], rest.blocked)


def _room(tier: request_pb2.Tier, engine: Engine, policy: Policy) -> Room:
    window = policy.windows[tier]
    free = engine.free
    if tier != TIER_REALTIME:
        free = min(free, _bulk_rows(engine, policy) - engine.bulk)

    def of_tenant(name: str) -> float:
        tenant = policy.tenants.get(name)
        most = tenant.rows.get(tier, math.inf) if tenant else math.inf
        return most - engine.running.get((name, tier), 0)

    return Room(min(free, window.rows), min(window.tokens, engine.tokens - engine.used_tokens), of_tenant)


def _bulk_rows(engine: Engine, policy: Policy) -> int:
    """One place is the bulk's own, however small the engine."""
    return max(engine.rows - policy.reserved_rows, 1)


def _is_idle(engine: Engine, policy: Policy) -> bool:
    return engine.of_tiers(TIER_REALTIME, TIER_STANDARD) < max(policy.idle_share * engine.rows, 1)


def _is_off_peak(policy: Policy, now: float) -> bool:
    at = datetime.fromtimestamp(now, policy.zone).time()
    return any(hours.contains(at) for hours in policy.off_peak)


def _next_off_peak(policy: Policy, now: float) -> float:
    """When the next of the hours begin; seconds since 1970, never where there are none."""
    today = datetime.fromtimestamp(now, policy.zone)
    begins = (
        datetime.combine(today.date() + timedelta(days=days), hours.begin, policy.zone).timestamp()
        for hours in policy.off_peak
        for days in (0, 1)
    )
    return min((at for at in begins if at > now), default=math.inf)
