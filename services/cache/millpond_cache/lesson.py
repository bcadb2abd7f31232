"""From a model's answer to what is kept of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.cacheable import CacheabilityHead
from millpond_cache.partition import question_of
from millpond_cache.settings import CacheSettings
from millpond_cache.store import MAX_OUTPUT_BYTES, Entry, Lesson, kept_tag


@dataclass(frozen=True)
class Keeping:
    """ttl_s: where a request says none, for all, for single tenants and for models that answered. dimension: of vectors
    in the store. head: says what may be given again.
    """

    ttl_s: int
    max_temperature: float
    dimension: int
    head: CacheabilityHead
    ttl_s_by_tenant: Mapping[str, int] = field(default_factory=dict[str, int])
    ttl_s_by_model: Mapping[str, int] = field(default_factory=dict[str, int])

    def ttl(self, request: request_pb2.Request, model: str) -> int:
        """Seconds: the request's own, or the tenant's and the model's, the smaller of them, or else the one for all."""
        by_tenant, by_model = self.ttl_s_by_tenant, self.ttl_s_by_model
        own = [ttls[name] for ttls, name in ((by_tenant, request.tenant), (by_model, model)) if name in ttls]
        return request.cache.ttl_s or min(own, default=self.ttl_s)


def keeping_of(settings: CacheSettings, head: CacheabilityHead) -> Keeping:
    return Keeping(
        settings.ttl_s,
        settings.max_temperature,
        settings.dimension,
        head,
        settings.ttl_s_by_tenant,
        settings.ttl_s_by_model,
    )


def lesson_of(learned: envelope_pb2.Learned, keeping: Keeping, now: float) -> Lesson | None:
    """What is to be kept; None where the answer is not to be given again. now: seconds since 1970.

    Not kept: an answer that depends on the asker or the moment, an empty one, one longer than a store can hold, and one
    whose time has passed already. The answer belongs to the model that gave it, which is not the one first asked where
    a better one had to help.
    """
    request, output = learned.request, learned.output
    # A clock that is ahead of ours must not keep an answer beyond its time.
    answered_at = min(learned.answered_at.ToNanoseconds() / 1e9, now)
    expires_at = ceil(answered_at + keeping.ttl(request, learned.served_by.model))
    if learned.served_by.route == result_pb2.ROUTE_CACHE or not learned.served_by.model:
        return None
    if request.cache.mode == request_pb2.CACHE_MODE_BYPASS or is_varied(request, keeping.max_temperature):
        return None
    if not output.text or len(output.text.encode()) > MAX_OUTPUT_BYTES or expires_at <= now:
        return None
    embedding = learned.embedding if learned.HasField("embedding") else None
    question = question_of(request, learned.served_by.model, embedding, keeping.dimension)
    if not keeping.head.allows(question.text, question.vector, question.embedder):
        return None
    entry = Entry(
        key=question.key,
        tenant=question.tenant,
        partition=question.partition,
        embedder=question.embedder,
        text=question.text if question.vector is not None else "",
        model=question.model,
        output=output.text,
        finish_reason=output.finish_reason,
        input_tokens=learned.usage.input_tokens,
        output_tokens=learned.usage.output_tokens,
        source_id=request.id,
        answered_at=answered_at,
        expires_at=expires_at,
        tag=tag_of(request),
    )
    return Lesson(entry, question.vector)


def tag_of(request: request_pb2.Request) -> str:
    """By which the answer may be forgotten together with others: what its metadata calls "cache_tag"."""
    return kept_tag(request.metadata.get("cache_tag", ""))


def is_varied(request: request_pb2.Request, max_temperature: float) -> bool:
    """Whether the request asks for another answer each time. One that names no temperature does not."""
    return request.params.temperature > max_temperature
