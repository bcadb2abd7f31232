"""From results to figures: who answered, how fast, and what it costs in each way of asking. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from millpond.v1 import request_pb2, result_pb2
from millpond_cli.figures import percentile
from millpond_core.cost import Price, cost, dollars
from millpond_core.envelope import TIER_WORDS
from millpond_core.errors import Code
from millpond_core.stage import ROUTE_WORDS

if TYPE_CHECKING:
    from millpond_core.settings import ModelSettings


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a request's append to ai.requests to its result: half of them, and 95 in 100, took at most."""

    count: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Batches:
    """Of the small model. mean_size: requests in one."""

    count: int
    mean_size: float


@dataclass(frozen=True)
class Tokens:
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Costs:
    """Dollars for the same answers.

    actual: what the results say. synchronous, batch: every token at the large model's price of that name.
    hybrid: nothing for the cache's answers; each other token at the price of the model that it was spent at, the batch
    price unless somebody waited (realtime).
    """

    actual: Decimal
    synchronous: Decimal
    batch: Decimal
    hybrid: Decimal


@dataclass(frozen=True)
class Summary:
    """by_route: by who answered, with the tokens and the dollars of each; "none" for requests without an answer.

    by_hit: the cache's answers, by kind. from_before: those that it had learned before this run.
    late_realtime: realtime requests whose deadline passed.
    """

    requests: int
    results: int
    ok: int
    errors: Mapping[str, int]
    again: int
    by_route: Mapping[str, int]
    by_hit: Mapping[str, int]
    from_before: int
    late_realtime: int
    tokens_by_route: Mapping[str, Tokens]
    cost_by_route: Mapping[str, Decimal]
    by_tier: Mapping[str, Latency]
    batches: Batches
    usage: Tokens
    cost: Costs
    wall_s: float


def summarise(
    results: Sequence[result_pb2.Result],
    models: Sequence[ModelSettings],
    batches: Batches,
    *,
    requests: int,
    again: int,
    wall_s: float,
) -> Summary:
    """results: the first of each request. again: how many came beyond it."""
    by_route: Mapping[str, Sequence[result_pb2.Result]] = {
        word: [result for result in results if result.served_by.route == route] for route, word in ROUTE_WORDS.items()
    }
    ids = {result.id for result in results}
    return Summary(
        requests=requests,
        results=len(results),
        ok=sum(result.status == result_pb2.STATUS_OK for result in results),
        errors=Counter(result.error.code for result in results if result.status != result_pb2.STATUS_OK),
        again=again,
        by_route={word: len(those) for word, those in by_route.items()},
        by_hit=Counter(result.served_by.cache.kind for result in by_route["cache"]),
        from_before=sum(result.served_by.cache.source_id not in ids for result in by_route["cache"]),
        late_realtime=sum(
            result.error.code == Code.DEADLINE_PASSED and result.decision.tier == request_pb2.TIER_REALTIME
            for result in results
        ),
        tokens_by_route={word: usage_of(those) for word, those in by_route.items()},
        cost_by_route={word: spent_on(those) for word, those in by_route.items()},
        by_tier=latencies(results),
        batches=batches,
        usage=usage_of(results),
        cost=costs(results, models),
        wall_s=wall_s,
    )


def latencies(results: Iterable[result_pb2.Result]) -> Mapping[str, Latency]:
    """Of the requests that were answered, by tier."""
    found: dict[str, list[float]] = {word: [] for word in TIER_WORDS.values()}
    for result in results:
        if result.status == result_pb2.STATUS_OK:
            found[TIER_WORDS[result.decision.tier]].append(result.timings_ms["total"])
    return {
        tier: Latency(len(times), percentile(times, 0.5), percentile(times, 0.95))
        for tier, times in found.items()
        if times
    }


def usage_of(results: Iterable[result_pb2.Result]) -> Tokens:
    usages = [result.usage for result in results]
    return Tokens(sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages))


def spent_on(results: Iterable[result_pb2.Result]) -> Decimal:
    return sum((Decimal(result.cost_usd) for result in results), Decimal(0))


def costs(results: Sequence[result_pb2.Result], models: Sequence[ModelSettings]) -> Costs:
    large = next(model for model in models if model.role == "frontier")
    return Costs(
        actual=spent_on(results),
        synchronous=sum((cost(result.usage, large.price.synchronous) for result in results), Decimal(0)),
        batch=sum((cost(result.usage, large.price.batch) for result in results), Decimal(0)),
        hybrid=sum((hybrid_cost(result, models) for result in results), Decimal(0)),
    )


def hybrid_cost(result: result_pb2.Result, models: Sequence[ModelSettings]) -> Decimal:
    """Attempts that failed cost what their model costs; so does the answer, where a model gave it now."""
    waits = result.decision.tier == request_pb2.TIER_REALTIME
    spent = sum((cost(each.usage, price_of(each.model, models, waits)) for each in result.attempts), Decimal(0))
    if result.served_by.route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER):
        spent += cost(answer_usage(result), price_of(result.served_by.model, models, waits))
    return spent


def answer_usage(result: result_pb2.Result) -> result_pb2.Usage:
    """Without the attempts."""
    tried = [attempt.usage for attempt in result.attempts]
    return result_pb2.Usage(
        input_tokens=result.usage.input_tokens - sum(usage.input_tokens for usage in tried),
        output_tokens=result.usage.output_tokens - sum(usage.output_tokens for usage in tried),
    )


def price_of(name: str, models: Sequence[ModelSettings], waits: bool) -> Price:
    price = next(model for model in models if model.name == name).price
    return price.synchronous if waits else price.batch


def targets(summary: Summary, *, checked: int, complete: int, own: bool) -> list[dict[str, Any]]:
    """The bounds that a run is held to. own: the requests are the person's, which may be wrong on purpose."""
    figures = [
        _target("requests without a result", summary.requests - summary.results, "requests", 0, "lower"),
        _target("results beyond the first", summary.again, "results", 0, "lower"),
    ]
    if checked:
        figures.append(_target("whole traces", complete / checked, "share", 1, "higher"))
    if not own:
        figures.append(_target("requests without an answer", summary.results - summary.ok, "requests", 0, "lower"))
    if summary.cost.synchronous:
        share = float(summary.cost.hybrid / summary.cost.synchronous)
        figures.append(_target("hybrid cost of synchronous cost", round(share, 4), "share", 0.1, "lower"))
    return figures


def _target(name: str, value: float, unit: str, bound: float, better: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "bound": bound, "better": better}


def as_json(summary: Summary) -> dict[str, Any]:
    return {
        "requests": summary.requests,
        "results": summary.results,
        "ok": summary.ok,
        "errors": summary.results - summary.ok,
        "errors_by_code": dict(summary.errors),
        "by_route": dict(summary.by_route),
        "by_hit": dict(summary.by_hit),
        "cache_from_before": summary.from_before,
        "by_tier": {tier: asdict(latency) for tier, latency in summary.by_tier.items()},
        "batches": {"count": summary.batches.count, "mean_size": round(summary.batches.mean_size, 2)},
        "usage": asdict(summary.usage),
        "cost_usd": {way: float(dollars(amount)) for way, amount in asdict(summary.cost).items()},
        "wall_s": round(summary.wall_s, 2),
    }
