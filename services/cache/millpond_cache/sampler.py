"""Sends a share of the hits by meaning to the model too, in the overnight tier. Nobody waits for it."""

from __future__ import annotations

import asyncio

from millpond.v1 import audit_pb2, envelope_pb2, request_pb2, result_pb2
from millpond_cache.cluster import cluster_of
from millpond_cache.decide import Outcome, Verdict
from millpond_cache.partition import Question
from millpond_cache.sample import is_sampled, sample_request
from millpond_core import metrics, topics
from millpond_core.clock import Clock
from millpond_core.envelope import BATCH_TOPICS, routed_record
from millpond_core.publisher import Publisher
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing

PUBLISH_S = 10.0
"""Seconds that Kafka has to take one; later it does as well."""


class Sampler:
    def __init__(self, settings: Settings, share: float, publisher: Publisher, tracing: Tracing, clock: Clock) -> None:
        self._settings = settings
        self._share = share
        self._publisher = publisher
        self._tracing = tracing
        self._clock = clock
        self._sending: set[asyncio.Task[bool]] = set()

    def consider(
        self, asked: request_pb2.Request, embedding: envelope_pb2.Embedding | None, question: Question, verdict: Verdict
    ) -> None:
        """question: as it was looked up; it has a vector where it was answered by meaning."""
        entry, vector = verdict.entry, question.vector
        if verdict.outcome is not Outcome.SEMANTIC or entry is None or vector is None:
            return
        model = self._settings.model_named(question.model)
        if model is None or not is_sampled(asked, self._share):
            return
        sample = audit_pb2.Sample(
            asked_id=asked.id,
            source_id=entry.source_id,
            cluster=cluster_of(vector, question.embedder),
            given=result_pb2.Output(text=entry.output, finish_reason=entry.finish_reason),
            probability=verdict.reason.value,
        )
        now = self._clock.now()
        routed = sample_request(asked, embedding, sample, now)
        small = model.kind == "triton"
        routed.decision.route = result_pb2.ROUTE_SMALL if small else result_pb2.ROUTE_FRONTIER
        routed.decision.model = question.model
        due_s = now + self._settings.tiers.seconds(request_pb2.TIER_OVERNIGHT)
        routed.decision.deadline.FromNanoseconds(int(due_s * 1e9))
        topic = BATCH_TOPICS[request_pb2.TIER_OVERNIGHT] if small else topics.FRONTIER
        span = self._tracing.send(topic, None)
        sending = asyncio.create_task(self._publisher.publish(routed_record(topic, routed, span), PUBLISH_S))
        span.end()
        metrics.CACHE_SAMPLES.labels("asked").inc()
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
