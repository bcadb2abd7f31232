"""One request, one trace: every edge from one service's span to the next one's, as the real Jaeger has them.

100 requests go every way that there is: to the small model, to the large one, to the cache, and back with a refusal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from millpond.v1 import result_pb2
from millpond_cli.client import Requests, Results
from millpond_cli.traces import Jaeger, Span, check
from millpond_core.telemetry import start_tracing
from pipeline import PATIENCE_S, Pipeline, collect

Edge = tuple[str, str, str, str]
"""Parent's service and span, child's service and span."""

CLIENT, ROUTER, CACHE = "telemetry-test", "millpond-router", "millpond-cache"
BATCHER, FRONTIER = "millpond-batcher", "millpond-frontier"

ENTRY: Sequence[Edge] = (
    (CLIENT, "send ai.requests", ROUTER, "receive ai.requests"),
    (ROUTER, "receive ai.requests", ROUTER, "process ai.requests"),
    (ROUTER, "process ai.requests", CACHE, "receive ai.routed"),
    (CACHE, "receive ai.routed", CACHE, "process ai.routed"),
)
SETTLED_BY_CACHE: Sequence[Edge] = (*ENTRY, (CACHE, "process ai.routed", CACHE, "send ai.results"))


def by_model(service: str, topic: str, model: str) -> Sequence[Edge]:
    return (
        *ENTRY,
        (CACHE, "process ai.routed", service, f"receive {topic}"),
        (service, f"receive {topic}", service, f"process {topic}"),
        (service, f"process {topic}", service, f"chat {model}"),
        (service, f"process {topic}", service, "send ai.results"),
    )


@dataclass(frozen=True)
class Way:
    """fields: of the request. edges: those that its trace must have."""

    count: int
    fields: Mapping[str, object]
    edges: Sequence[Edge]
    route: result_pb2.Route


def ways(small: str, large: str) -> Mapping[str, Way]:
    brief = {"params": {"max_tokens": 4}}
    return {
        f"small-{tier}": Way(
            27,
            {**brief, "model": "small", "tier": tier, "cache": {"mode": "bypass"}},
            by_model(BATCHER, f"ai.batch.{tier}", small),
            result_pb2.ROUTE_SMALL,
        )
        for tier in ("realtime", "standard", "overnight")
    } | {
        "large": Way(
            4,
            {**brief, "model": "frontier", "cache": {"mode": "bypass"}},
            by_model(FRONTIER, "ai.frontier", large),
            result_pb2.ROUTE_FRONTIER,
        ),
        "missed": Way(10, {"cache": {"mode": "only"}}, SETTLED_BY_CACHE, result_pb2.ROUTE_UNSPECIFIED),
        "refused": Way(5, {"messages": []}, SETTLED_BY_CACHE, result_pb2.ROUTE_UNSPECIFIED),
    }


def edges_of(spans: Sequence[Span]) -> Counter[Edge]:
    by_id = {span.id: span for span in spans}
    return Counter(
        (by_id[span.parent].service, by_id[span.parent].name, span.service, span.name)
        for span in spans
        if span.parent in by_id
    )


def test_every_request_has_one_whole_trace_with_every_edge(pipeline: Pipeline) -> None:
    small, large = (pipeline.settings.model_of_role(role).name for role in ("small", "frontier"))
    sent: dict[str, Way] = {}
    tracing = start_tracing(CLIENT, otlp_endpoint=pipeline.settings.otlp_endpoint, traces_file=None)
    with Results(pipeline.settings) as results, Requests(pipeline.settings, tracing) as requests:
        for name, way in ways(small, large).items():
            for number in range(way.count):
                request = {"messages": [{"role": "user", "content": f"Say {name}, {number}."}], **way.fields}
                sent[requests.send(json.dumps(request).encode())] = way
        requests.flush()
        found = collect(results, sent)
    tracing.close()
    assert len(sent) == 100

    assert {trace: found[trace].served_by.route for trace in sent} == {trace: way.route for trace, way in sent.items()}
    if not pipeline.addresses.jaeger_query:
        pytest.skip("no Jaeger was built: install Go and run ./millpond test again")
    jaeger = Jaeger(pipeline.addresses.jaeger_query)
    assert check(jaeger, list(sent), PATIENCE_S).faults == {}
    for trace, way in sent.items():
        edges = edges_of(jaeger.spans([trace])[trace])
        for edge in way.edges:
            assert edges[edge] == 1, f"{trace}: {edge} is there {edges[edge]} times"
