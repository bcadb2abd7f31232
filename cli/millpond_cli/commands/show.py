"""What several commands show."""

from __future__ import annotations

from millpond_cli.stack import Addresses


def shown_addresses(addresses: Addresses) -> str:
    """What a person wants to reach, a line each, in the order of a request's way."""
    is_stand_in = addresses.provider == addresses.stand_in
    named = [
        ("Kafka", f"{addresses.kafka}  (write ai.requests, read ai.results)"),
        ("gRPC, answers at once", addresses.frontier_grpc),
        ("Triton, gRPC", addresses.triton),
        ("Milvus", addresses.milvus),
        ("large model", f"{addresses.provider}{'  (a small model that stands in for one)' if is_stand_in else ''}"),
        ("traces", addresses.jaeger_query or addresses.otlp or addresses.traces_file or "nowhere"),
        *((f"{name}, metrics", f"{url}/metrics") for name, url in addresses.http.items()),
    ]
    return "\n".join(f"{what:21}  {where}" for what, where in named)
