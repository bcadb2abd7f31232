"""A whole stack, as tests see it from outside: what is on its topics, and what its services count."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Message

from millpond.v1 import result_pb2
from millpond_cli import metrics_page
from millpond_cli.client import Results, result_in
from millpond_cli.stack import Addresses
from millpond_cli.topic_reader import everything_on
from millpond_core import topics
from millpond_core.settings import Settings

PATIENCE_S = 120.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""


@dataclass(frozen=True)
class Pipeline:
    addresses: Addresses
    settings: Settings

    def everything_on(self, topic: str) -> Sequence[Message]:
        """All that a read_committed reader sees by now."""
        return list(everything_on(self.settings, topic))

    def results(self) -> Sequence[result_pb2.Result]:
        return [result_in(message) for message in self.everything_on(topics.RESULTS)]

    def counted(self) -> metrics_page.Samples:
        stand_in = self.addresses.stand_in.removesuffix("/v1")
        services = [*self.addresses.http.values(), stand_in]
        return metrics_page.read([*(f"{url}/metrics" for url in services), self.addresses.triton_metrics])


def collect(results: Results, traces: Iterable[str]) -> dict[str, result_pb2.Result]:
    """The results of these requests, by trace id, once all are there."""
    wanted = set(traces)
    found: dict[str, result_pb2.Result] = {}
    until = time.monotonic() + PATIENCE_S
    while wanted - found.keys():
        assert time.monotonic() < until, f"{len(wanted - found.keys())} of {len(wanted)} results never came"
        found |= {result.trace_id: result for result in results.take(1.0)}
    return found
