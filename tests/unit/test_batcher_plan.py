"""Laws of the batcher's plan, over any requests, any engine and any policy."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.plan import TIERS, Batch, Engine, Policy, Wait, Waiting, Window, plan, retry_after_s

NOW = 1000.0

seconds = st.floats(0, 200).map(lambda value: round(value, 2))

waitings = st.lists(
    st.builds(
        Waiting[int],
        item=st.integers(),
        tier=st.sampled_from(TIERS),
        arrived_s=seconds.map(lambda ago: NOW - ago),
        deadline_s=seconds.map(lambda ahead: NOW + ahead),
        run_s=seconds,
    ),
    max_size=40,
)

policies = st.builds(
    Policy,
    windows=st.fixed_dictionaries({tier: st.builds(Window, st.integers(1, 20), seconds) for tier in TIERS}),
    margin_s=seconds,
    reserved_rows=st.integers(0, 10),
    refill_rows=st.integers(1, 20),
)


@st.composite
def engines(draw: st.DrawFn) -> Engine:
    rows = draw(st.integers(1, 20))
    realtime = draw(st.integers(0, rows))
    return Engine(rows, realtime, draw(st.integers(0, rows - realtime)))


DEFAULT = Policy(
    {TIER_REALTIME: Window(16, 0), TIER_STANDARD: Window(64, 1), TIER_OVERNIGHT: Window(64, 10)},
    margin_s=10,
    reserved_rows=4,
    refill_rows=16,
)

IDLE = Engine(64, 0, 0)


def waiting(
    tier: request_pb2.Tier, *, arrived_s: float = NOW, deadline_s: float = NOW + 3600, run_s: float = 5
) -> Waiting[int]:
    return Waiting(0, tier, arrived_s, deadline_s, run_s)


@given(waitings, engines(), policies)
def test_a_batch_fits_is_of_one_tier_and_has_its_earliest_deadlines(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    step = plan(those, engine, policy, NOW)
    if isinstance(step, Wait):
        return
    assert 1 <= len(step.members) <= min(engine.free, policy.windows[step.tier].rows)
    assert {member.tier for member in step.members} == {step.tier}
    chosen = [member.deadline_s for member in step.members]
    assert chosen == sorted(each.deadline_s for each in those if each.tier == step.tier)[: len(chosen)]


@given(waitings, engines(), policies)
def test_realtime_that_is_gathered_goes_first_wherever_a_place_is_free(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    realtime = [each for each in those if each.tier == TIER_REALTIME]
    gathered = any(NOW - each.arrived_s >= policy.windows[TIER_REALTIME].wait_s for each in realtime)
    step = plan(those, engine, policy, NOW)
    if gathered and engine.free:
        assert isinstance(step, Batch)
        assert step.tier == TIER_REALTIME


@given(waitings, engines(), policies)
def test_a_wait_ends_in_the_future_and_no_later_than_the_next_closing(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    step = plan(those, engine, policy, NOW)
    if isinstance(step, Batch):
        return
    closings: list[float] = []
    for tier, window in policy.windows.items():
        its = [each for each in those if each.tier == tier]
        closings += [min(each.deadline_s - each.run_s for each in its) - policy.margin_s] if its else []
        if 0 < len(its) < min(window.rows, engine.rows - policy.reserved_rows):
            closings.append(min(each.arrived_s for each in its) + window.wait_s)
    ahead = [at - NOW for at in closings if at > NOW]
    if step.seconds is not None:
        assert step.seconds > 0
    if ahead:
        assert step.seconds is not None
        assert step.seconds <= min(ahead)


@given(waitings, policies, st.integers(1, 20))
def test_no_request_starves(those: Sequence[Waiting[int]], policy: Policy, rows: int) -> None:
    """Time passes only as the plan says, and a row ends only where it says that nothing else can be done."""
    left = list(those)
    running: list[request_pb2.Tier] = []
    now = NOW
    while left:
        realtime = running.count(TIER_REALTIME)
        step = plan(left, Engine(rows, realtime, len(running) - realtime), policy, now)
        if isinstance(step, Batch):
            left = [each for each in left if all(each is not member for member in step.members)]
            running += [step.tier] * len(step.members)
        elif step.seconds is not None:
            # Enough to pass the closing, whatever floats make of it.
            now += step.seconds + 1e-6
        else:
            assert running, "the engine is empty, requests wait, and nothing will ever call the plan again"
            running.pop()


@given(waitings, policies, st.integers(2, 20), st.data())
def test_a_steady_load_of_realtime_rows_does_not_hold_back_the_bulk(
    those: Sequence[Waiting[int]], policy: Policy, rows: int, data: st.DataObject
) -> None:
    """Bulk that waited goes into whatever realtime leaves free."""
    bulk = [each for each in those if each.tier != TIER_REALTIME]
    realtime = data.draw(st.integers(0, rows - 1))
    if any(NOW - each.arrived_s >= policy.windows[each.tier].wait_s for each in bulk):
        assert isinstance(plan(bulk, Engine(rows, realtime, 0), policy, NOW), Batch)


@given(waitings, engines(), policies)
def test_bulk_leaves_the_reserved_places_to_realtime(
    those: Sequence[Waiting[int]], engine: Engine, policy: Policy
) -> None:
    step = plan(those, engine, policy, NOW)
    if isinstance(step, Batch) and step.tier != TIER_REALTIME:
        # One place is the bulk's own, however small the engine.
        assert engine.bulk + len(step.members) <= max(engine.rows - policy.reserved_rows, 1)


def test_a_full_window_goes_at_once() -> None:
    step = plan([waiting(TIER_OVERNIGHT)] * 60, IDLE, DEFAULT, NOW)
    assert isinstance(step, Batch)
    assert (step.reason, len(step.members)) == ("full", 60)


def test_a_window_goes_when_its_first_request_has_waited_long_enough() -> None:
    those = [waiting(TIER_STANDARD), waiting(TIER_STANDARD, arrived_s=NOW - 0.4)]
    step = plan(those, IDLE, DEFAULT, NOW)
    assert isinstance(step, Wait)
    assert step.seconds is not None
    assert abs(step.seconds - 0.6) < 1e-6
    step = plan(those, IDLE, DEFAULT, NOW + 0.7)
    assert isinstance(step, Batch)
    assert (step.reason, len(step.members)) == ("waited", 2)


def test_a_window_goes_at_the_latest_start_that_keeps_a_deadline() -> None:
    late = waiting(TIER_OVERNIGHT, deadline_s=NOW + 17, run_s=5)
    assert plan([late], IDLE, DEFAULT, NOW) == Wait(2)
    step = plan([late], IDLE, DEFAULT, NOW + 2)
    assert isinstance(step, Batch)
    assert step.reason == "deadline"


def test_an_engine_that_is_busy_with_bulk_is_refilled_by_many_rows_at_once_unless_a_deadline_is_near() -> None:
    old = [waiting(TIER_STANDARD, arrived_s=NOW - 60)] * 30
    assert isinstance(plan(old, Engine(64, 0, 50), DEFAULT, NOW), Wait)
    step = plan(old, Engine(64, 0, 44), DEFAULT, NOW)
    assert isinstance(step, Batch)
    assert len(step.members) == 16
    near = waiting(TIER_STANDARD, deadline_s=NOW + 12)
    assert isinstance(plan([*old, near], Engine(64, 0, 50), DEFAULT, NOW), Batch)


def test_a_near_deadline_goes_before_the_tiers_order() -> None:
    standard = [waiting(TIER_STANDARD, arrived_s=NOW - 60)] * 3
    step = plan([*standard, waiting(TIER_OVERNIGHT, deadline_s=NOW + 1)], IDLE, DEFAULT, NOW)
    assert isinstance(step, Batch)
    assert step.tier == TIER_OVERNIGHT


@given(st.integers(1, 1000), st.floats(0.01, 10), st.floats(0.01, 100), st.floats(0, 1))
def test_retries_come_later_and_later_up_to_a_bound(attempts: int, first: float, last: float, chance: float) -> None:
    after = retry_after_s(attempts, first, last, chance)
    assert 0 < after <= last * 1.5
    assert retry_after_s(attempts + 1, first, last, chance) >= after
