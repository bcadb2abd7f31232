"""What becomes of a batch of records: for each, one record for ai.routed or ai.deadletter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core import metrics, telemetry, topics
from millpond_core.clock import Clock
from millpond_core.dead_letter import dead_letter
from millpond_core.embedding import prompt_text
from millpond_core.envelope import TIER_WORDS, routed_record
from millpond_core.errors import Malformed, Refused
from millpond_core.processor import Outgoing, Record
from millpond_core.stage import ROUTE_WORDS
from millpond_core.telemetry import Tracing
from millpond_router.accept import Accepted, Terms, accept, refuse
from millpond_router.brain import Brain
from millpond_router.decide import Policy, decide
from millpond_router.features import Features, features_of
from millpond_router.heads import Reading
from millpond_router.language import LanguageDetector
from millpond_router.rules import Rules

SERVICE = "router"

EXAMPLES_RETRY_S = 5.0
"""Between two tries to embed the rules' examples while the embedder is away."""


TOGETHER = 16
"""Requests that are decided without a look at what came meanwhile: some 10 ms. The embedder that has answered waits for
the next texts, and a realtime request for its turn."""

MaybeEmbeddings = Sequence[envelope_pb2.Embedding | None]
MaybeReadings = Sequence[Reading | None]


class Embeddings(Protocol):
    async def of(self, texts: Sequence[str], *, urgent: bool) -> MaybeEmbeddings:
        """One per text, in their order; None where the embedder has no time for it."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One record in the router's hands, accepted or a dead letter.

    taken_at: seconds since 1970. span: its `process` span.
    """

    taken_at: float
    span: Span
    taken: Accepted | Outgoing

    @property
    def urgent(self) -> bool:
        """Whether it is to go on soon. What goes on without an embedding does so at once."""
        taken = self.taken
        return isinstance(taken, Outgoing) or taken.refused or taken.tier == request_pb2.TIER_REALTIME


class Routing:
    """topic_ids: Kafka's own, by name. tenants: those that topics are bound to.

    brain: the heads. shadow: a candidate for their place, which decides beside them and moves nothing. encoder: whose
    vectors both look at; None for the embedder's.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        policy: Policy,
        rules: Rules,
        language: LanguageDetector,
        embeddings: Embeddings,
        topic_ids: Mapping[str, str],
        tenants: Mapping[str, str],
        clock: Clock,
        tracing: Tracing,
        brain: Brain | None = None,
        shadow: Brain | None = None,
        encoder: Embeddings | None = None,
    ) -> None:
        self._brain = brain or Brain()
        self._shadow = shadow
        self._encoder = encoder
        self._terms = terms
        self._policy = policy
        self._rules = rules
        self._language = language
        self._embeddings = embeddings
        self._topic_ids = topic_ids
        self._tenants = tenants
        self._clock = clock
        self._tracing = tracing
        self._examples_wanted = asyncio.Event()
        self._examples_wanted.set()

    def take(self, records: Sequence[Record]) -> list[Item]:
        """Read and check these, and begin their spans."""
        now = self._clock.now()
        for topic, count in Counter(record.partition.topic for record in records).items():
            metrics.RECORDS_TAKEN.labels(topic, SERVICE).inc(count)
        return [self._take(record, now) for record in records]

    async def outgoing(self, items: Sequence[Item], *, urgent: bool) -> list[Outgoing]:
        """One record for each, in their order; urgent ones do not wait long for their embeddings."""
        open_ones = [each.taken for each in items if isinstance(each.taken, Accepted) and not each.taken.refused]
        texts = [prompt_text(each.routed.request) for each in open_ones]
        embeddings, encoded = await self._vectors(texts, urgent)
        found = zip(embeddings, *await self._readings(texts, encoded), strict=True)
        outgoing: list[Outgoing] = []
        for number, item in enumerate(items):
            if number % TOGETHER == 0:
                await asyncio.sleep(0)
            match item.taken:
                case Outgoing():
                    outgoing.append(item.taken)
                case Accepted() as accepted:
                    if not accepted.refused:
                        self._decide(item, accepted, *next(found))
                    outgoing.append(self._envelope(item, accepted))
            item.span.end()
        return outgoing

    async def _vectors(self, texts: Sequence[str], urgent: bool) -> tuple[MaybeEmbeddings, MaybeEmbeddings]:
        """(what travels on with the requests, what the heads look at)"""
        embeddings = self._embeddings.of(texts, urgent=urgent)
        if self._encoder is None:
            found = await embeddings
            return found, found
        return await asyncio.gather(embeddings, self._encoder.of(texts, urgent=urgent))

    async def _readings(self, texts: Sequence[str], encoded: MaybeEmbeddings) -> tuple[MaybeReadings, MaybeReadings]:
        """(the heads', the candidate's)"""
        readings: list[Reading | None] = []
        others: list[Reading | None] = []
        for first in range(0, len(texts), TOGETHER):
            part = slice(first, first + TOGETHER)
            readings += self._brain.readings(texts[part], encoded[part])
            others += self._shadow.readings(texts[part], encoded[part]) if self._shadow else [None] * len(texts[part])
            await asyncio.sleep(0)
        return readings, others

    async def keep_examples(self) -> None:
        """Keep the rules' examples embedded by the embedder that embeds the requests. Never returns."""
        while self._rules.sentences:
            await self._examples_wanted.wait()
            found = await self._embeddings.of(self._rules.sentences, urgent=False)
            embeddings = [each for each in found if each is not None]
            if len(embeddings) == len(self._rules.sentences) and len({each.version for each in embeddings}) == 1:
                self._rules = self._rules.with_examples(embeddings)
                self._examples_wanted.clear()
            else:
                await asyncio.sleep(EXAMPLES_RETRY_S)

    def _take(self, record: Record, now: float) -> Item:
        topic, number = record.partition
        received = self._tracing.received(topic, record.headers, partition=number, offset=record.offset)
        span = self._tracing.process(topic, received)
        try:
            tenant = self._tenants.get(topic)
            return Item(now, span, accept(record, self._terms, self._topic_ids[topic], tenant, now))
        except Malformed as failure:
            if span.is_recording():
                span.set_attribute(telemetry.ERROR_TYPE, failure.code)
            with telemetry.current(span):
                return Item(now, span, dead_letter(record, SERVICE, failure.code, str(failure)))

    def _decide(
        self,
        item: Item,
        accepted: Accepted,
        embedding: envelope_pb2.Embedding | None,
        reading: Reading | None,
        other: Reading | None,
    ) -> None:
        routed = accepted.routed
        request = routed.request
        if embedding is not None:
            routed.embedding.CopyFrom(embedding)
            if embedding.version != self._rules.examples.version:
                self._examples_wanted.set()
        features = looked_at(request, accepted.tier, embedding, reading, self._rules, self._language)
        policy = self._policy.with_learned(self._brain.learned)
        accepted_s = routed.accepted_at.ToNanoseconds() / 1e9
        try:
            decision = decide(features, self._rules, policy, accepted_s)
        except Refused as failure:
            refuse(accepted, failure, self._terms)
            return
        routed.decision.CopyFrom(decision)
        metrics.DECISIONS.labels(ROUTE_WORDS[decision.route], decision.reasons[0].code).inc()
        if self._shadow is not None and other is not None:
            self._compare(item, decision, replace(features, reading=other), accepted_s)

    def _compare(self, item: Item, live: result_pb2.Decision, features: Features, accepted_s: float) -> None:
        """What the candidate would have decided, counted and on the span."""
        assert self._shadow is not None
        policy = self._policy.with_learned(self._shadow.learned)
        try:
            candidate = decide(features, self._rules, policy, accepted_s)
        except Refused:
            return
        metrics.SHADOW_DECISIONS.labels(live.model, candidate.model).inc()
        if item.span.is_recording():
            item.span.set_attribute(telemetry.SHADOW_MODEL, candidate.model)

    def _envelope(self, item: Item, accepted: Accepted) -> Outgoing:
        routed = accepted.routed
        routed.timings_ms[SERVICE] = round((self._clock.now() - item.taken_at) * 1000, 1)
        if item.span.is_recording():
            _describe(item.span, routed)
        return routed_record(topics.ROUTED, routed, item.span, accepted.body)


def looked_at(  # noqa: PLR0917
    request: request_pb2.Request,
    tier: request_pb2.Tier,
    embedding: envelope_pb2.Embedding | None,
    reading: Reading | None,
    rules: Rules,
    language: LanguageDetector,
) -> Features:
    """What `decide` is asked with. tier: as asked. The language is only looked for where a rule may ask for it."""
    asks = request.model == "auto" and rules.asks_for_language
    spoken = language.language_of(prompt_text(request)) if asks else ""
    return features_of(request, tier, spoken, embedding, reading=reading)


def _describe(span: Span, routed: envelope_pb2.Routed) -> None:
    request, decision = routed.request, routed.decision
    span.set_attribute(telemetry.REQUEST_ID, request.id)
    span.set_attribute(telemetry.TENANT, request.tenant)
    span.set_attribute(telemetry.TIER, TIER_WORDS[decision.tier])
    span.set_attribute(telemetry.DEADLINE, decision.deadline.ToJsonString())
    if routed.replay:
        span.set_attribute(telemetry.REPLAY, routed.replay)
    if routed.HasField("reject"):
        span.set_attribute(telemetry.ERROR_TYPE, routed.reject.code)
        return
    span.set_attribute(telemetry.ROUTE, ROUTE_WORDS[decision.route])
    span.set_attribute(telemetry.REQUEST_MODEL, decision.model)
    span.set_attribute(telemetry.REASONS, [reason.code for reason in decision.reasons])
    if decision.HasField("judgement"):
        _describe_judgement(span, decision.judgement)
    if routed.HasField("embedding"):
        span.set_attribute(telemetry.EMBEDDER_VERSION, routed.embedding.version)


def _describe_judgement(span: Span, judgement: result_pb2.Judgement) -> None:
    span.set_attribute(telemetry.HEADS, judgement.heads)
    span.set_attribute(telemetry.DOMAIN, judgement.domain)
    span.set_attribute(telemetry.TASK, judgement.task)
    span.set_attribute(telemetry.DIFFICULTY, judgement.difficulty)
    span.set_attribute(telemetry.NOVELTY, judgement.novelty)
    span.set_attribute(telemetry.OUT_OF_SCOPE, judgement.out_of_scope)
    span.set_attribute(telemetry.MIN_QUALITY, judgement.min_quality)
    counted = [f"{name} {number:g}" for name, number in sorted(judgement.features.items())]
    span.set_attribute(telemetry.FEATURES, counted)
    options = [f"{each.model} {each.quality:.3f} {each.cost_usd} {each.verdict}" for each in judgement.options]
    span.set_attribute(telemetry.OPTIONS, options)
