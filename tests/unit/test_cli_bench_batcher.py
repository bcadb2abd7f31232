"""What the batcher's benchmarks ask for, and what they make of what they saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.plan import bucket_of
from millpond_cli.commands.bench import batching, tiers
from millpond_cli.commands.bench.batching import Measured
from millpond_cli.commands.bench.tiers import DUE_S, OVERLOAD, Planned, Seen
from millpond_cli.simulation.engine_profile import EngineProfile


@given(st.floats(0.5, 20), st.floats(0.2, 2))
@settings(max_examples=15, deadline=None)
def test_the_burst_is_twice_the_capacity_and_can_be_done_by_the_deadlines(rows_per_s: float, scale: float) -> None:
    planned = tiers.plan_of(rows_per_s, scale)
    bulk = [each for each in planned if each.tier != TIER_REALTIME]
    seconds = tiers.BURST_S * scale
    assert abs(len(bulk) - OVERLOAD * rows_per_s * seconds) <= 1
    assert all(0 <= each.at_s <= seconds for each in bulk)
    # What can be done until the last deadline of each tier, tier after tier.
    standard = sum(each.tier == TIER_STANDARD for each in bulk)
    assert standard <= 0.75 * rows_per_s * (seconds + DUE_S[TIER_STANDARD] * scale) + 5
    assert len(bulk) <= 0.75 * rows_per_s * DUE_S[TIER_OVERNIGHT] * scale + 1
    assert [each.at_s for each in planned] == sorted(each.at_s for each in planned)


def test_two_bursts_are_alike_but_for_their_texts() -> None:
    one, other = tiers.plan_of(4, 0.5), tiers.plan_of(4, 0.5)
    assert [(each.at_s, each.tier, each.tokens) for each in one] == [
        (each.at_s, each.tier, each.tokens) for each in other
    ]
    assert not {each.text for each in one} & {each.text for each in other}


def seen(seconds: float | None, tier: int = TIER_STANDARD) -> Seen:
    return Seen(Planned(0, TIER_STANDARD if tier == TIER_STANDARD else TIER_REALTIME, "", 8), 10, seconds)


def test_what_has_no_answer_or_a_late_one_is_no_hit() -> None:
    found = tiers.by_tier([seen(1), seen(29), seen(31), seen(None)], scale=1)
    assert found == {"standard": {"requests": 4, "hit_rate": 0.5, "p50_s": 29, "p95_s": 31, "p99_s": 31}}
    assert tiers.by_tier([seen(29)], scale=0.5)["standard"]["hit_rate"] == 0


@given(st.floats(0.01, 0.05), st.floats(0, 0.5), st.floats(1, 2))
@settings(max_examples=10, deadline=None)
def test_a_simulation_of_the_engine_that_was_measured_agrees_with_it(
    step_s: float, overhead_s: float, slower: float
) -> None:
    """Of an engine that is itself only computed: what lies beyond its steps, and what others take of it, is found."""
    bare = EngineProfile(step_s=step_s, row_step_s=0.0002, prompt_token_s=0.0001, rows=64, urgent_rows=16)
    engine = bare.model_copy(update={"overhead_s": overhead_s})
    alone = measured(tiers.realtime(5), engine)
    unhurried = tiers.with_overhead(bare, alone, 1.0)
    assert abs(unhurried.overhead_s - overhead_s) < 2e-3
    crowd = measured(tiers.crowd(64, 100, in_tiers=False), engine.slowed(slower), in_tiers=False)
    crowd_in_tiers = measured(tiers.crowd(64, 100, in_tiers=True), engine.slowed(slower))
    for those, in_tiers in ((crowd, False), (crowd_in_tiers, True)):
        again = tiers.in_company(unhurried, [those], in_tiers=in_tiers)
        assert abs(again.step_s / engine.slowed(slower).step_s - 1) < 0.03
    flood = measured(tiers.plan_of(tiers.capacity(crowd, 64), 0.25), engine.slowed(slower))
    expected = tiers.by_tier(tiers.simulated(flood, again, 1.0, in_tiers=True), 1.0)
    targets = tiers.agreement("batcher", tiers.by_tier(flood, 1.0), expected)
    assert all(each["value"] <= each["bound"] / 2 for each in targets)


def measured(planned: Sequence[Planned], engine: EngineProfile, *, in_tiers: bool = True) -> list[Seen]:
    return tiers.simulated([Seen(each, 40, 1.0) for each in planned], engine, 1.0, in_tiers=in_tiers)


def test_realtime_is_asked_for_as_often_alone_as_in_the_flood() -> None:
    flood = [each for each in tiers.plan_of(8, 0.5) if each.tier == TIER_REALTIME]
    assert [each.at_s for each in flood] == [each.at_s for each in tiers.realtime(tiers.flood_s(0.5))]


def test_windows_by_length_have_one_length_each() -> None:
    lengths = sorted(batching.mixed_lengths(), key=bucket_of)
    windows = [lengths[first : first + batching.MIXED_ROWS] for first in range(0, len(lengths), batching.MIXED_ROWS)]
    assert all(len({bucket_of(length) for length in window}) == 1 for window in windows)
    assert set(lengths) == set(batching.MIXED)


def test_the_settings_that_are_simulated_are_those_that_are_measured() -> None:
    batcher = tiers.batcher_settings().batcher
    assert batcher.margin_s == float(tiers.SETTINGS["MILLPOND_BATCHER__MARGIN_S"])
    assert batcher.overnight_wait_s == float(tiers.SETTINGS["MILLPOND_BATCHER__OVERNIGHT_WAIT_S"])


def test_targets_say_what_was_measured_whether_it_is_met_or_not() -> None:
    names = (batching.ONE, *batching.WINDOWS, batching.CONTINUOUS, batching.BATCHER)
    speeds = dict(zip(names, (10.0, 40.0, 60.0, 70.0, 100.0, 80.0), strict=True))
    speeds |= {batching.MIXED_FIRST: 50.0, batching.MIXED_GROUPED: 60.0}
    targets = batching.targets_of({name: Measured([speed], [1.0], [0.0]) for name, speed in speeds.items()})
    assert [each["value"] for each in targets] == [7.0, 10.0, 0.8, 1.2]
    assert all(set(each) == {"name", "value", "unit", "bound", "better"} for each in targets)


def test_texts_of_a_burst_are_all_different() -> None:
    assert set(Counter(tiers.texts(300)).values()) == {1}
