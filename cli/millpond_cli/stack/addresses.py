"""Where a stack's components can be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond_cli.stack.components import COMPONENTS
from millpond_cli.stack.description import HOST, Instance, ports_of


@dataclass(frozen=True)
class Addresses:
    """Every address of a stack at this port base, whether or not the component was selected to run.

    kafka, triton, frontier_grpc, cache_grpc: host:port. milvus, stand_in, triton_http, triton_metrics: URLs; stand_in
    ends in /v1, as OpenAI's clients want it.
    otlp, jaeger_query: URLs, None where traces do not go to a local Jaeger; traces_file: path, where they go to a file.
    provider: what the frontier calls: the stand-in, or what the user's environment names.
    http: service instance (`batcher-1`) → URL of /healthz, /readyz and /metrics.
    """

    kafka: str
    triton: str
    triton_http: str
    triton_metrics: str
    milvus: str
    stand_in: str
    provider: str
    frontier_grpc: str
    cache_grpc: str
    otlp: str | None
    jaeger_query: str | None
    traces_file: str | None
    http: Mapping[str, str]


def port_values(port_base: int) -> dict[str, str]:
    """`kafka.broker` → "19092", for every component's first replica."""
    return {
        f"{component.name}.{port}": str(number)
        for component in COMPONENTS
        for port, number in ports_of(component, port_base).items()
    }


def addresses(
    port_base: int,
    instances: Sequence[Instance],
    provider: str | None,
    otlp: str | None,
    traces_file: str | None,
) -> Addresses:
    """provider: None for the stand-in. otlp: a collector that is not this stack's own, None for its Jaeger."""
    port = port_values(port_base)
    stand_in = f"http://{HOST}:{port['stand-in.http']}/v1"
    own_jaeger = any(instance.component.name == "jaeger" for instance in instances)
    return Addresses(
        kafka=f"{HOST}:{port['kafka.broker']}",
        triton=f"{HOST}:{port['triton.grpc']}",
        triton_http=f"http://{HOST}:{port['triton.http']}",
        triton_metrics=f"http://{HOST}:{port['triton.metrics']}/metrics",
        milvus=f"http://{HOST}:{port['milvus.grpc']}",
        stand_in=stand_in,
        provider=provider or stand_in,
        frontier_grpc=f"{HOST}:{port['frontier.grpc']}",
        cache_grpc=f"{HOST}:{port['cache.grpc']}",
        otlp=f"http://{HOST}:{port['jaeger.otlp']}" if own_jaeger else otlp,
        jaeger_query=f"http://{HOST}:{port['jaeger.query']}" if own_jaeger else None,
        traces_file=traces_file,
        http={i.name: f"http://{HOST}:{i.ports['http']}" for i in instances if i.component.is_service},
    )


def from_json(given: Mapping[str, Any]) -> Addresses:
    return Addresses(**given)
