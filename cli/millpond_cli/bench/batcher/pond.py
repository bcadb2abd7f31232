"""Kafka, Triton and the batcher, with a producer in the cache's place and a reader of results."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_batcher.settings import BatcherSection
from millpond_cli.client import Results
from millpond_cli.errors import CommandError
from millpond_cli.here import settings_of
from millpond_cli.stack import Stack
from millpond_core.envelope import BATCH_TOPICS, routed_record
from millpond_core.telemetry import Tracing

STALL_S = 300.0
"""Without a result for so long, no more are waited for."""


class Pond:
    """results: by id, with the time (monotonic) at which each was read."""

    def __init__(self, stack: Stack) -> None:
        self.settings = settings = settings_of(stack.addresses)
        self.addresses = stack.addresses
        self._stack = stack
        self.model = settings.model_of_role("small")
        self.results: dict[str, tuple[result_pb2.Result, float]] = {}
        self._tracing = Tracing()
        self._producer = Producer(settings.kafka_client({"partitioner": "murmur2_random", "linger.ms": 1}))
        self._reader = Results(settings)

    @property
    def urgent_rows(self) -> int:
        """Of the engine's rows, those that only realtime takes."""
        return BatcherSection().reserved_rows

    @property
    def rows(self) -> int:
        """Those that the other tiers take."""
        return self.model.max_rows - self.urgent_rows

    @property
    def processes(self) -> Mapping[int, str]:
        """Its components by their process, and this one."""
        return {**self._stack.processes, os.getpid(): "bench"}

    def send(self, requests: Sequence[envelope_pb2.Routed]) -> None:
        for routed in requests:
            topic = BATCH_TOPICS[routed.decision.tier]
            record = routed_record(topic, routed, self._tracing.send(topic, None))
            self._producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
        self._producer.poll(0)

    def read(self, within_s: float) -> int:
        """How many came."""
        results = self._reader.take(within_s)
        now = time.monotonic()
        for result in results:
            self.results.setdefault(result.id, (result, now))
        return len(results)

    def await_all(self, ids: Sequence[str]) -> list[result_pb2.Result]:
        """Raises CommandError where some have no result."""
        self._producer.flush(STALL_S)
        last = time.monotonic()
        while any(each not in self.results for each in ids):
            if self.read(0.2):
                last = time.monotonic()
            elif time.monotonic() - last > STALL_S:
                missing = sum(each not in self.results for each in ids)
                raise CommandError(f"{missing} of {len(ids)} requests have no result: ./millpond logs batcher", 1)
        return [self.results[each][0] for each in ids]

    def routed(
        self,
        text: str,
        tier: request_pb2.Tier,
        tokens: int,
        *,
        due_s: float,
        tenant: str = "acme",
        metadata: Mapping[str, str] | None = None,
    ) -> envelope_pb2.Routed:
        """As the cache sends it on, for an answer of exactly so many tokens. due_s: seconds until its deadline."""
        routed = envelope_pb2.Routed(
            request=request_pb2.Request(
                id=uuid.uuid4().hex,
                tenant=tenant,
                tier=tier,
                messages=[request_pb2.Message(role="user", content=text)],
                params=request_pb2.Params(max_tokens=tokens, min_tokens=tokens, temperature=0),
                # Equal texts are equal work here: nobody is to be answered with another's answer.
                cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_BYPASS),
                metadata=metadata or {},
            ),
            decision=result_pb2.Decision(tier=tier, route=result_pb2.ROUTE_SMALL, model=self.model.name),
            format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
        )
        now = time.time_ns()
        routed.accepted_at.FromNanoseconds(now)
        routed.decision.deadline.FromNanoseconds(now + int(due_s * 1e9))
        return routed

    def close(self) -> None:
        # Else it goes on looking for a broker that is stopped next.
        self._producer.close()
        self._reader.close()


@contextmanager
def pond(home: Path, port_base: int, run: Path, environment: Mapping[str, str]) -> Generator[Pond]:
    only = {"kafka", "topics", "triton", "batcher"}
    with Stack(home, port_base, only=only, environment=environment, run=run) as stack:
        own = Pond(stack)
        try:
            yield own
        finally:
            own.close()
