"""Laws of the demo's figures."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli.demo.summary import Batches, as_json, costs, latencies, summarise, targets
from millpond_core.result import EXPIRED, Answer, Failure, result_of
from millpond_core.settings import ModelSettings, Settings

MODELS: list[ModelSettings] = Settings().models
SMALL, LARGE = (model.name for model in MODELS)

Route = result_pb2.Route

usages = st.builds(result_pb2.Usage, input_tokens=st.integers(0, 10_000), output_tokens=st.integers(0, 10_000))
tiers = st.sampled_from([request_pb2.TIER_REALTIME, request_pb2.TIER_STANDARD, request_pb2.TIER_OVERNIGHT])


def result(
    route: Route, usage: result_pb2.Usage, tier: request_pb2.Tier, attempts: list[result_pb2.Attempt], ms: float = 1.0
) -> result_pb2.Result:
    """As a stage makes it."""
    routed = envelope_pb2.Routed(decision=result_pb2.Decision(tier=tier), attempts=attempts)
    model = LARGE if route == result_pb2.ROUTE_FRONTIER else SMALL
    answer = Answer(result_pb2.Output(text="yes"), result_pb2.ServedBy(route=route, model=model), usage)
    return result_of(routed, answer, MODELS, ms / 1000, "trace")


attempts = st.lists(st.builds(result_pb2.Attempt, model=st.sampled_from([SMALL, LARGE]), usage=usages), max_size=2)
routes = st.sampled_from([result_pb2.ROUTE_CACHE, result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER])
results = st.lists(st.builds(result, routes, usages, tiers, attempts), max_size=8)


@given(results)
def test_hybrid_costs_no_more_than_synchronous_and_what_ran_here_lies_between(made: list[result_pb2.Result]) -> None:
    cost = costs(made, MODELS)
    rounding = Decimal("0.000001") * len(made)
    assert 0 <= cost.hybrid <= cost.actual + rounding
    assert cost.actual <= cost.synchronous + rounding
    assert cost.batch * 10 == cost.synchronous


@given(results)
def test_every_token_of_every_result_is_counted_once_in_every_way_of_counting(made: list[result_pb2.Result]) -> None:
    summary = summarise(made, MODELS, Batches(0, 0.0), requests=len(made), again=0, wall_s=1.0)
    assert sum(each.input_tokens for each in summary.tokens_by_route.values()) == summary.usage.input_tokens
    assert sum(each.output_tokens for each in summary.tokens_by_route.values()) == summary.usage.output_tokens
    assert sum(summary.by_route.values()) == summary.results == len(made)
    assert sum(summary.cost_by_route.values()) == summary.cost.actual


def test_the_large_model_costs_its_batch_price_unless_somebody_waits() -> None:
    usage = result_pb2.Usage(input_tokens=600_000, output_tokens=400_000)
    waits = result(result_pb2.ROUTE_FRONTIER, usage, request_pb2.TIER_REALTIME, [])
    can_wait = result(result_pb2.ROUTE_FRONTIER, usage, request_pb2.TIER_OVERNIGHT, [])
    from_cache = result(result_pb2.ROUTE_CACHE, usage, request_pb2.TIER_OVERNIGHT, [])
    assert costs([waits], MODELS).hybrid == 10
    assert costs([can_wait], MODELS).hybrid == 1
    assert costs([from_cache], MODELS).hybrid == 0


def test_latency_is_that_of_answers_by_tier() -> None:
    made = [
        result(result_pb2.ROUTE_SMALL, result_pb2.Usage(), request_pb2.TIER_REALTIME, [], ms=ms) for ms in range(1, 101)
    ]
    made[0].status = result_pb2.STATUS_EXPIRED
    (latency,) = latencies(made).values()
    assert (latency.count, latency.p50_ms, latency.p95_ms) == (99, 51, 96)


def test_what_the_cache_had_before_the_run_is_told_apart() -> None:
    asked, repeated, older = (
        result(route, result_pb2.Usage(), request_pb2.TIER_STANDARD, [])
        for route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_CACHE, result_pb2.ROUTE_CACHE)
    )
    asked.id, repeated.id, older.id = "one", "two", "three"
    repeated.served_by.cache.source_id, older.served_by.cache.source_id = "one", "of yesterday"
    summary = summarise([asked, repeated, older], MODELS, Batches(0, 0.0), requests=3, again=0, wall_s=1.0)
    assert (summary.by_route["cache"], summary.from_before) == (2, 1)
    assert as_json(summary)["cache_from_before"] == 1


@pytest.mark.parametrize(("tier", "late"), [(request_pb2.TIER_REALTIME, 1), (request_pb2.TIER_STANDARD, 0)])
def test_a_machine_is_too_slow_where_realtime_requests_were_late(tier: request_pb2.Tier, late: int) -> None:
    decision = result_pb2.Decision(tier=tier)
    passed = result_of(envelope_pb2.Routed(decision=decision), Failure(EXPIRED), MODELS, 1.0, "trace")
    summary = summarise([passed], MODELS, Batches(0, 0.0), requests=1, again=0, wall_s=1.0)
    assert summary.late_realtime == late


def test_a_missing_result_and_one_too_many_miss_their_bounds() -> None:
    made = [result(result_pb2.ROUTE_SMALL, result_pb2.Usage(), request_pb2.TIER_REALTIME, [])]
    summary = summarise(made, MODELS, Batches(1, 1.0), requests=2, again=1, wall_s=1.0)
    missed = {
        target["name"]
        for target in targets(summary, checked=1, complete=1, own=False)
        if (target["value"] > target["bound"] if target["better"] == "lower" else target["value"] < target["bound"])
    }
    assert missed == {"requests without a result", "results beyond the first"}


@pytest.mark.parametrize(
    "key",
    ["requests", "results", "ok", "errors", "by_route", "by_tier", "batches", "usage", "cost_usd", "wall_s"],
)
def test_the_json_has_what_was_promised(key: str) -> None:
    assert key in as_json(summarise([], MODELS, Batches(0, 0.0), requests=0, again=0, wall_s=0.0))
