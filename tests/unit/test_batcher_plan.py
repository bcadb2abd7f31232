"""Laws of the batcher's plan, over any requests, any engine and any policy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.backlog import Backlog, Room, Waiting
from millpond_batcher.cost_model import Cost
from millpond_batcher.plan import (
    SLOTS,
    TIERS,
    Batch,
    Engine,
    Hours,
    Policy,
    Tenant,
    Wait,
    Window,
    backlog_of,
    bucket_of,
    fits,
    plan,
    retry_after_s,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()

COST = Cost(token_s=0.02, row_token_s=0.001, prompt_token_s=0.001)

TENANTS = ("acme", "globex", "initech")

USUAL_S = {TIER_REALTIME: 30.0, TIER_STANDARD: 3600.0, TIER_OVERNIGHT: 43200.0}

seconds = st.floats(0, 200).map(lambda value: round(value, 2))


@st.composite
def waitings(draw: st.DrawFn) -> Sequence[Waiting[int]]:
    one = st.builds(
        Waiting[int],
        item=st.just(0),
        tenant=st.sampled_from(TENANTS),
        tier=st.sampled_from(TIERS),
        arrived_s=seconds.map(lambda ago: NOW - ago),
        deadline_s=seconds.map(lambda ahead: NOW + ahead),
        prompt_tokens=st.integers(1, 300),
        max_tokens=st.integers(1, 300),
        prefix=st.sampled_from([b"", b"a", b"b"]),
    )
    return [replace(each, item=number) for number, each in enumerate(draw(st.lists(one, max_size=20)))]


policies = st.builds(
    Policy,
    windows=st.fixed_dictionaries(
        {tier: st.builds(Window, st.integers(1, 20), seconds, st.integers(600, 5000)) for tier in TIERS}
    ),
    usual_s=st.just(USUAL_S),
    margin_s=seconds,
    reserved_rows=st.integers(0, 10),
    refill_rows=st.integers(1, 20),
    pads=st.booleans(),
    off_peak=st.sampled_from([(), (Hours(time(22), time(6)),), (Hours(time(11), time(13)),)]),
    tenants=st.dictionaries(
        st.sampled_from(TENANTS),
        st.builds(
            Tenant,
            weight=st.floats(0.1, 10),
            rows=st.dictionaries(st.sampled_from(TIERS), st.integers(1, 5)),
        ),
    ),
    quantum=st.integers(1, 3000),
)


@st.composite
def engines(draw: st.DrawFn) -> Engine:
    rows = draw(st.integers(1, 20))
    tokens = draw(st.integers(600, 5000))
    running: Counter[tuple[str, request_pb2.Tier]] = Counter()
    for _ in range(draw(st.integers(0, rows))):
        running[draw(st.sampled_from(TENANTS)), draw(st.sampled_from(TIERS))] += 1
    return Engine(rows, running, tokens, draw(st.integers(0, tokens)) if running else 0)


DEFAULT = Policy(
    {TIER_REALTIME: Window(16, 0), TIER_STANDARD: Window(64, 1), TIER_OVERNIGHT: Window(64, 10)},
    USUAL_S,
    margin_s=10,
    reserved_rows=4,
    refill_rows=16,
)

IDLE = Engine(64, {})


def backlog(those: Sequence[Waiting[int]], policy: Policy = DEFAULT, rows: int = 64, cost: Cost = COST) -> Backlog[int]:
    filled = backlog_of(policy, lambda _: cost, rows, 1, int)
    for each in those:
        filled.add(each)
    return filled


def latest_start_s(each: Waiting[int], policy: Policy, rows: int) -> float:
    return each.deadline_s - COST.run_s(each.prompt_tokens, each.max_tokens, rows) - policy.margin_s


def waiting(
    tier: request_pb2.Tier,
    item: int = 0,
    *,
    tenant: str = "acme",
    arrived_s: float = NOW,
    deadline_s: float = NOW + 3600,
    tokens: int = 100,
    prefix: bytes = b"",
) -> Waiting[int]:
    return Waiting(item, tenant, tier, arrived_s, deadline_s, tokens - 50, 50, prefix)


def several(count: int, tier: request_pb2.Tier, *, arrived_s: float = NOW, tenant: str = "acme") -> list[Waiting[int]]:
    return [waiting(tier, number, arrived_s=arrived_s, tenant=tenant) for number in range(count)]


def unlimited(tenant: str) -> float:
    return math.inf


def members(step: Batch[int] | Wait) -> Sequence[Waiting[int]]:
    return step.members if isinstance(step, Batch) else ()


@given(waitings(), engines(), policies)
def test_a_batch_fits_and_is_of_one_tier_and_length(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    left = backlog(those, policy, engine.rows)
    step = plan(left, engine, policy, NOW)
    chosen = members(step)
    assert {each.item for each in chosen} | {each.item for each in left} == {each.item for each in those}
    assert len(chosen) + len(left) == len(those)
    if isinstance(step, Wait):
        return
    window = policy.windows[step.tier]
    assert 1 <= len(chosen) <= min(engine.free, window.rows)
    assert sum(each.tokens for each in chosen) <= min(engine.tokens - engine.used_tokens, window.tokens)
    assert {each.tier for each in chosen} == {step.tier}
    if policy.pads:
        assert min(each.tokens for each in chosen) >= 0.9 * max(each.tokens for each in chosen)
    for tenant, count in Counter(each.tenant for each in chosen).items():
        quota = policy.tenants.get(tenant, Tenant()).rows.get(step.tier, math.inf)
        assert count + engine.running.get((tenant, step.tier), 0) <= quota


@given(waitings(), engines(), policies)
def test_the_order_within_a_tenant_and_tier_holds(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    """By deadline; within a slot of the tier's time those with one prefix may go together."""
    left = backlog(those, replace(policy, pads=False), engine.rows)
    chosen = members(plan(left, engine, replace(policy, pads=False), NOW))
    for each in chosen:
        slot_s = 0 if each.tier == TIER_REALTIME else USUAL_S[each.tier] / SLOTS
        passed = [other for other in left if (other.tenant, other.tier) == (each.tenant, each.tier)]
        assert all(each.deadline_s <= other.deadline_s + slot_s for other in passed)


@given(waitings(), engines(), policies)
def test_realtime_never_waits_for_a_window_of_another_tier(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    policy = replace(policy, windows={**policy.windows, TIER_REALTIME: Window(16, 0)}, tenants={})
    realtime = [each for each in those if each.tier == TIER_REALTIME]
    step = plan(backlog(those, policy, engine.rows), engine, policy, NOW)
    if realtime and engine.free and engine.tokens - engine.used_tokens >= 600:
        assert isinstance(step, Batch)
        assert step.tier == TIER_REALTIME


@given(waitings(), policies, st.integers(1, 20))
def test_nothing_starts_after_its_latest_start_while_there_was_room(
    those: Sequence[Waiting[int]], policy: Policy, rows: int
) -> None:
    """Whoever must start now and is left waiting, is so for want of a place, of tokens or by its own quota."""
    left = backlog(those, policy, rows)
    running: Counter[tuple[str, request_pb2.Tier]] = Counter()
    tokens = 2000
    used = 0
    while batch := members(plan(left, Engine(rows, running, tokens, used), policy, NOW)):
        running.update((each.tenant, each.tier) for each in batch)
        used += sum(each.tokens for each in batch)
    engine = Engine(rows, running, tokens, used)
    late = [each for each in left if latest_start_s(each, policy, rows) <= NOW]
    for each in late:
        quota = policy.tenants.get(each.tenant, Tenant()).rows.get(each.tier, math.inf)
        bulk_rows = max(rows - policy.reserved_rows, 1)
        full = engine.free == 0 or (each.tier != TIER_REALTIME and engine.bulk >= bulk_rows)
        of_tokens = any(used + other.tokens > tokens for other in left)
        assert full or of_tokens or running[each.tenant, each.tier] >= quota


@given(waitings(), policies, st.integers(1, 20))
def test_no_request_starves(those: Sequence[Waiting[int]], policy: Policy, rows: int) -> None:
    """Time passes only as the plan says, and a row ends only where it says that nothing else can be done."""
    left = backlog(those, policy, rows)
    running: list[Waiting[int]] = []
    now = NOW
    for _ in range(10 * len(those) + 50):
        if not left:
            return
        counts = Counter((each.tenant, each.tier) for each in running)
        step = plan(left, Engine(rows, counts, 2000, sum(each.tokens for each in running)), policy, now)
        if isinstance(step, Batch):
            running += step.members
        elif running:
            running.pop(0)
        else:
            assert step.seconds is not None, "the engine is empty, requests wait, and nothing will call the plan again"
            # Enough to pass the closing, whatever floats make of it.
            now += step.seconds + 1e-3
    raise AssertionError(f"{len(left)} requests were never sent")


@given(waitings(), engines(), policies)
def test_a_wait_ends_in_the_future_and_no_later_than_the_next_closing(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    left = backlog(those, policy, engine.rows)
    step = plan(left, engine, policy, NOW)
    if isinstance(step, Batch):
        return
    closings = [latest_start_s(each, policy, engine.rows) for each in those]
    closings += [each.arrived_s + policy.windows[each.tier].wait_s for each in those]
    first = min((at for at in closings if at > NOW + 1e-6), default=math.inf)
    if step.seconds is not None:
        assert step.seconds > 0
    if first < math.inf and not engine.running:
        assert step.seconds is not None
        assert step.seconds <= max(first - NOW, 1e-3) + 1e-6 or any(each.arrived_s < NOW for each in those)


@given(waitings(), policies, st.integers(2, 20), st.data())
def test_a_steady_load_of_realtime_rows_does_not_hold_back_standard_ones(
    those: Sequence[Waiting[int]], policy: Policy, rows: int, data: st.DataObject
) -> None:
    """Bulk that waited goes into whatever realtime leaves free."""
    policy = replace(policy, tenants={})
    bulk = [each for each in those if each.tier == TIER_STANDARD]
    realtime = data.draw(st.integers(0, rows - 1))
    engine = Engine(rows, {("acme", TIER_REALTIME): realtime})
    if any(NOW - each.arrived_s >= policy.windows[each.tier].wait_s for each in bulk):
        assert isinstance(plan(backlog(bulk, policy, rows), engine, policy, NOW), Batch)


@given(waitings(), engines(), policies)
def test_bulk_leaves_the_reserved_places_to_realtime(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    step = plan(backlog(those, policy, engine.rows), engine, policy, NOW)
    if isinstance(step, Batch) and step.tier != TIER_REALTIME:
        # One place is the bulk's own, however small the engine.
        assert engine.bulk + len(step.members) <= max(engine.rows - policy.reserved_rows, 1)


@given(waitings(), st.data())
def test_what_is_taken_out_leaves_nothing_behind(those: Sequence[Waiting[int]], data: st.DataObject) -> None:
    """Whose turn it is may be another's for it: only the tenants' shares are promised, not the order of equals."""
    gone = data.draw(st.sets(st.integers(0, 19)))
    one = backlog(those)
    for item in gone:
        assert (one.remove(item) is not None) == (item < len(those))
    left = [each for each in those if each.item not in gone]
    assert list(one) == left
    assert sum(one.rows(group) for group in one.groups()) == len(left)
    assert sum(one.tokens(group) for group in one.groups()) == sum(each.tokens for each in left)
    if isinstance(step := plan(one, IDLE, DEFAULT, NOW + 50), Batch):
        assert not gone & {each.item for each in step.members}


@given(waitings())
def test_a_backlog_that_is_priced_again_is_as_one_that_was_so_from_the_beginning(those: Sequence[Waiting[int]]) -> None:
    slower = replace(COST, token_s=1.0)
    costs = [COST]
    again = backlog_of(DEFAULT, lambda _: costs[-1], 64, 1, int)
    for each in those:
        again.add(each)
    costs.append(slower)
    again.reprice()
    assert plan(again, IDLE, DEFAULT, NOW) == plan(backlog(those, cost=slower), IDLE, DEFAULT, NOW)


@given(
    st.dictionaries(st.sampled_from(TENANTS), st.floats(0.5, 4), min_size=3),
    st.lists(st.integers(60, 500), min_size=3, max_size=3),
    st.booleans(),
    st.integers(1, 20),
)
@settings(max_examples=30, deadline=None)
def test_tenants_that_always_have_requests_get_tokens_by_their_weights(
    weights: Mapping[str, float], lengths: Sequence[int], presses: bool, rows: int
) -> None:
    """However long their requests are, and whether or not one of them says that all of its are due."""
    policy = replace(
        DEFAULT, tenants={name: Tenant(weight) for name, weight in weights.items()}, quantum=500, reserved_rows=0
    )
    left = backlog_of(policy, lambda _: COST, rows, 1, int)
    number = 0
    served: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    for _ in range(1500 // rows):
        for name, tokens in zip(TENANTS, lengths, strict=True):
            due_s = NOW + 1 if presses and name == TENANTS[0] else NOW + 3000
            while waits[name] < 2 * rows:
                left.add(
                    waiting(TIER_STANDARD, number, tenant=name, arrived_s=NOW - 60, deadline_s=due_s, tokens=tokens)
                )
                number += 1
                waits[name] += 1
        for each in members(plan(left, Engine(rows, {}), policy, NOW)):
            served[each.tenant] += each.tokens
            waits[each.tenant] -= 1
    total, weight = served.total(), sum(weights.values())
    # Of one turn more or less: a share is never exact.
    slack = 4 * 500 * max(weights.values()) / min(*weights.values(), 1)
    for name in TENANTS:
        assert served[name] >= 0.8 * total * weights[name] / weight - slack


def test_a_flood_of_one_tenant_leaves_the_others_their_share() -> None:
    left = backlog(several(5000, TIER_STANDARD, arrived_s=NOW - 60, tenant="noisy"))
    for number in range(300):
        left.add(waiting(TIER_STANDARD, 10_000 + number, tenant=f"t{number % 3}", arrived_s=NOW - 1))
    served: Counter[str] = Counter()
    while sum(served[f"t{number}"] for number in range(3)) < 300:
        served.update(each.tenant for each in members(plan(left, IDLE, DEFAULT, NOW)))
    assert served["noisy"] <= 1.25 * 100 + 60


def test_ten_thousand_tenants_with_one_request_each_are_each_served_once() -> None:
    left = backlog(
        [waiting(TIER_STANDARD, number, tenant=f"t{number}", arrived_s=NOW - 60) for number in range(10_000)]
    )
    served = [each.item for _ in range(167) for each in members(plan(left, IDLE, DEFAULT, NOW))]
    assert sorted(served) == list(range(10_000))
    assert not left


def test_a_full_window_goes_at_once() -> None:
    step = plan(backlog(several(60, TIER_STANDARD)), IDLE, DEFAULT, NOW)
    assert isinstance(step, Batch)
    assert (step.reason, len(step.members)) == ("full", 60)


def test_a_window_closes_at_its_tokens() -> None:
    policy = replace(DEFAULT, windows={**DEFAULT.windows, TIER_STANDARD: Window(64, 1, tokens=1000)})
    step = plan(backlog(several(11, TIER_STANDARD), policy), IDLE, policy, NOW)
    assert isinstance(step, Batch)
    assert (step.reason, len(step.members)) == ("full", 10)


def test_a_window_goes_when_its_first_request_has_waited_long_enough() -> None:
    left = backlog([waiting(TIER_STANDARD), waiting(TIER_STANDARD, 1, arrived_s=NOW - 0.4)])
    step = plan(left, IDLE, DEFAULT, NOW)
    assert isinstance(step, Wait)
    assert step.seconds is not None
    assert abs(step.seconds - 0.6) < 1e-6
    step = plan(left, IDLE, DEFAULT, NOW + 0.7)
    assert isinstance(step, Batch)
    assert (step.reason, len(step.members)) == ("waited", 2)


def test_a_window_goes_at_the_latest_start_that_keeps_a_deadline() -> None:
    run_s = COST.run_s(50, 50, 64)
    left = backlog([waiting(TIER_OVERNIGHT, deadline_s=NOW + 12 + run_s)])
    step = plan(left, IDLE, DEFAULT, NOW)
    assert isinstance(step, Wait)
    assert step.seconds is not None
    assert abs(step.seconds - 2) < 1e-6
    step = plan(left, IDLE, DEFAULT, NOW + 2.001)
    assert isinstance(step, Batch)
    assert step.reason == "deadline"


def test_a_clock_that_is_set_back_lets_nothing_wait_for_longer() -> None:
    step = plan(backlog([waiting(TIER_STANDARD)]), IDLE, DEFAULT, NOW - 3600)
    assert isinstance(step, Batch)


@given(waitings(), policies, st.integers(1, 20), st.lists(st.sampled_from([-90_000, -60, 60, 90_000]), min_size=1))
def test_a_clock_that_jumps_loses_nobody(
    those: Sequence[Waiting[int]], policy: Policy, rows: int, jumps: Sequence[int]
) -> None:
    left = backlog(those, policy, rows)
    now = NOW
    sent: list[int] = []
    for jump in jumps:
        sent += [each.item for each in members(plan(left, Engine(rows, {}), policy, now))]
        now += jump
    # Once it stands still, a day later everything is due.
    for _ in those:
        sent += [each.item for each in members(plan(left, Engine(rows, {}), policy, now + 200_000))]
    assert sorted(sent) == [each.item for each in those]


def test_an_engine_that_is_busy_with_bulk_is_refilled_by_many_rows_at_once_unless_a_deadline_is_near() -> None:
    left = backlog(several(30, TIER_STANDARD, arrived_s=NOW - 60))
    assert isinstance(plan(left, Engine(64, {("acme", TIER_STANDARD): 50}), DEFAULT, NOW), Wait)
    assert len(members(plan(left, Engine(64, {("acme", TIER_STANDARD): 44}), DEFAULT, NOW))) == 16
    left.add(waiting(TIER_STANDARD, 99, deadline_s=NOW + 12))
    assert isinstance(plan(left, Engine(64, {("acme", TIER_STANDARD): 50}), DEFAULT, NOW), Batch)


def test_a_near_deadline_goes_before_the_tiers_order() -> None:
    left = backlog(several(3, TIER_STANDARD, arrived_s=NOW - 60))
    left.add(waiting(TIER_OVERNIGHT, 99, deadline_s=NOW + 1))
    step = plan(left, IDLE, DEFAULT, NOW)
    assert isinstance(step, Batch)
    assert step.tier == TIER_OVERNIGHT


BUSY = Engine(64, {("acme", TIER_STANDARD): 40})


def test_overnight_requests_are_held_while_the_engine_is_busy_with_others() -> None:
    old = several(30, TIER_OVERNIGHT, arrived_s=NOW - 60)
    assert isinstance(plan(backlog(old), BUSY, DEFAULT, NOW), Wait)
    assert isinstance(plan(backlog(old), Engine(64, {("acme", TIER_STANDARD): 10}), DEFAULT, NOW), Batch)


def test_overnight_requests_go_in_their_hours_and_the_plan_wakes_up_for_them() -> None:
    old = [replace(each, deadline_s=NOW + 40_000) for each in several(30, TIER_OVERNIGHT, arrived_s=NOW - 60)]
    policy = replace(DEFAULT, off_peak=(Hours(time(13, 30), time(6)),))
    step = plan(backlog(old), BUSY, policy, NOW)
    assert isinstance(step, Wait)
    assert step.seconds is not None
    # The sum over everything is made once a second; the hours begin in 5,400.
    assert step.seconds <= 5400
    assert isinstance(plan(backlog(old), BUSY, policy, NOW + 5401), Batch)


@pytest.mark.parametrize(
    ("at", "inside"), [(time(22), True), (time(23, 59), True), (time(5, 59), True), (time(6), False), (time(12), False)]
)
def test_hours_go_over_midnight(at: time, inside: bool) -> None:
    assert Hours(time(22), time(6)).contains(at) == inside


def test_overnight_requests_go_when_all_of_them_together_take_until_their_deadline() -> None:
    """None of them is near its own latest start; but there are too many to begin then."""
    work_s = COST.mean_s(50, 50, 64) / 64
    count = 3000
    those = [
        waiting(TIER_OVERNIGHT, number, arrived_s=NOW - 60, deadline_s=NOW + 60 + count * work_s)
        for number in range(count)
    ]
    assert isinstance(plan(backlog(those), BUSY, DEFAULT, NOW), Wait)
    step = plan(backlog(those), BUSY, DEFAULT, NOW + 51)
    assert isinstance(step, Batch)
    assert step.reason == "deadline"


@pytest.mark.parametrize("tier", [TIER_REALTIME, TIER_STANDARD])
def test_a_request_that_is_due_at_once_does_not_make_what_has_until_the_morning_due(tier: request_pb2.Tier) -> None:
    """Its own deadline is nearer than the margin: it must go, and nothing behind it must."""
    held = [replace(each, deadline_s=NOW + 40_000) for each in several(30, TIER_OVERNIGHT, arrived_s=NOW - 60)]
    left = backlog([*held, waiting(tier, 99, deadline_s=NOW + 1)])
    assert [each.item for each in members(plan(left, BUSY, DEFAULT, NOW))] == [99]
    assert isinstance(plan(left, BUSY, DEFAULT, NOW), Wait)


def test_overnight_requests_go_when_they_and_what_is_expected_take_until_their_deadline() -> None:
    """As above, but for most of it being known by its tokens alone."""
    work_s = COST.mean_s(50, 50, 64) / 64
    due_s = NOW + 60 + 3000 * work_s
    left = backlog([waiting(TIER_OVERNIGHT, arrived_s=NOW - 60, deadline_s=due_s)])
    source = Source()
    left.expect(source, [(due_s, 3000 * 100)])
    assert isinstance(plan(left, BUSY, DEFAULT, NOW), Wait)
    step = plan(left, BUSY, DEFAULT, NOW + 51)
    assert isinstance(step, Batch)
    assert step.reason == "deadline"
    left = backlog([waiting(TIER_OVERNIGHT, arrived_s=NOW - 60, deadline_s=NOW + 40_000)])
    left.expect(Source(), [(NOW + 40_000, 1e9)])
    assert isinstance(plan(left, BUSY, DEFAULT, NOW), Wait), "its source is no more"


class Source:
    """Where more waits."""


@given(waitings(), st.sampled_from(TIERS), st.integers(1, 20))
def test_a_tenants_first_deadlines_are_its_earliest(
    those: Sequence[Waiting[int]], tier: request_pb2.Tier, most: int
) -> None:
    first = dict(backlog(those, replace(DEFAULT, pads=True)).first(tier, most))
    for tenant in TENANTS:
        deadlines = sorted(each.deadline_s for each in those if (each.tenant, each.tier) == (tenant, tier))
        assert first.get(tenant, []) == deadlines[:most]


def test_requests_with_one_prefix_go_together_where_their_deadlines_leave_it_open() -> None:
    those = [waiting(TIER_STANDARD, number, prefix=b"ab"[number % 2 : number % 2 + 1]) for number in range(60)]
    drawn = backlog(those).draw(backlog(those).groups()[0], Room(30, 1 << 31, unlimited))
    assert len({each.prefix for each in drawn.members}) == 1


def test_a_request_whose_turn_it_is_and_that_does_not_fit_is_not_passed_over() -> None:
    """Or smaller ones would take its tokens for ever."""
    left = backlog([waiting(TIER_STANDARD, 0, arrived_s=NOW - 60, tokens=900)])
    left.add(waiting(TIER_OVERNIGHT, 1, arrived_s=NOW - 60))
    assert isinstance(plan(left, Engine(64, {}, 1000, 500), DEFAULT, NOW), Wait)
    assert [each.item for each in members(plan(left, Engine(64, {}, 1000), DEFAULT, NOW))] == [0]


def test_a_request_that_no_batch_can_hold_is_told_from_one_that_waits() -> None:
    assert fits(waiting(TIER_STANDARD, tokens=900), 1000, DEFAULT)
    assert not fits(waiting(TIER_STANDARD, tokens=1001), 1000, DEFAULT)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_rows_of_one_bucket_are_padded_by_a_tenth_at_most(one: int, other: int) -> None:
    if bucket_of(one) == bucket_of(other):
        assert min(one, other) >= 0.9 * max(one, other)


@given(st.integers(1, 1000), st.floats(0.01, 10), st.floats(0.01, 100), st.floats(0, 1))
def test_retries_come_later_and_later_up_to_a_bound(attempts: int, first: float, last: float, chance: float) -> None:
    after = retry_after_s(attempts, first, last, chance)
    assert 0 < after <= last * 1.5
    assert retry_after_s(attempts + 1, first, last, chance) >= after


@given(waitings(), st.lists(st.tuples(st.integers(0, 100), st.integers(1, 4)), max_size=12))
def test_whatever_is_drawn_first_all_of_it_is_drawn_once(
    those: Sequence[Waiting[int]], turns: Sequence[tuple[int, int]]
) -> None:
    left = backlog(those, replace(DEFAULT, pads=True))
    drawn: list[int] = []
    for place, rows in [*turns, *((0, 64) for _ in those)]:
        groups = sorted(left.groups())
        if groups:
            room = Room(rows, 1 << 31, unlimited)
            drawn += (each.item for each in left.draw(groups[place % len(groups)], room).members)
    assert sorted(drawn) == sorted(each.item for each in those)


def test_a_tenant_that_has_nothing_left_of_one_length_has_its_turn_at_another() -> None:
    short, long = 100, 200
    lengths = [("acme", short), ("acme", short), ("acme", long), ("globex", long), ("globex", long)]
    those = [
        waiting(TIER_STANDARD, number, tenant=tenant, tokens=tokens) for number, (tenant, tokens) in enumerate(lengths)
    ]
    left = backlog(those, replace(DEFAULT, pads=True))
    first, second = sorted(left.groups(), key=lambda group: group.bucket)
    drawn = [left.draw(group, Room(1, 1 << 31, unlimited)).members[0].item for group in (first, second, second, first)]
    assert drawn == [0, 2, 3, 1]
