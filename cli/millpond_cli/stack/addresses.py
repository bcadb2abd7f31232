"""Where a stack's components can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Addresses:
    """Every address of a stack at its port base, whether or not the component was selected to run.

    kafka, triton, frontier_grpc, cache_grpc: host:port. milvus, stand_in, triton_http, triton_metrics: URLs; stand_in
    ends in /v1, as OpenAI's clients want it.
    provider: what the frontier calls: the stand-in, or what the person's environment names.
    otlp: where spans go over gRPC; traces_file: the file they go to where they go to none; both None: nowhere.
    jaeger_query: the query API, None without a Jaeger. With traces_file it comes later, and gets the file then.
    jaeger_otlp_http: its OTLP over HTTP.
    http: service instance (`batcher-1`) → URL of /healthz, /readyz and /metrics.
    config: the file that the services read their settings from, "" for none.
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
    jaeger_otlp_http: str | None
    traces_file: str | None
    http: Mapping[str, str]
    config: str
