"""What is kept of a model's answer, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from cache_heads import PERSONAL, heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.lesson import Keeping, keeping_of, lesson_of
from millpond_cache.partition import question_of
from millpond_cache.settings import CacheSettings
from millpond_cache.store import MAX_OUTPUT_BYTES
from millpond_core.embedding import pack

KEEPING = Keeping(ttl_s=3600, max_temperature=0.7, dimension=384, head=heads().cacheability)
ANSWERED_AT = 1_000_000.25
VECTOR = np.eye(1, 384, dtype=np.float32)[0]


def learned(
    text: str = "There.",
    *,
    cache: request_pb2.CacheOptions | None = None,
    params: request_pb2.Params | None = None,
    embedding: envelope_pb2.Embedding | None = None,
    route: result_pb2.Route = result_pb2.ROUTE_SMALL,
) -> envelope_pb2.Learned:
    message = request_pb2.Message(role="user", content="Where to?")
    answer = envelope_pb2.Learned(
        request=request_pb2.Request(id="r-1", tenant="acme", messages=[message], cache=cache, params=params),
        output=result_pb2.Output(text=text, finish_reason="length"),
        served_by=result_pb2.ServedBy(route=route, model="small-model"),
        usage=result_pb2.Usage(input_tokens=6, output_tokens=2),
        embedding=embedding,
    )
    answer.answered_at.FromNanoseconds(int(ANSWERED_AT * 1e9))
    return answer


def test_who_asks_the_same_finds_it() -> None:
    answer = learned(embedding=pack(VECTOR, "embedder-1", 5))
    lesson = lesson_of(answer, KEEPING, ANSWERED_AT)
    question = question_of(answer.request, "small-model", answer.embedding, 384)
    assert lesson is not None
    assert lesson.vector is not None
    assert question.vector is not None
    np.testing.assert_array_equal(lesson.vector, question.vector)
    entry = lesson.entry
    assert (entry.key, entry.partition, entry.tenant, entry.embedder) == (
        question.key,
        question.partition,
        question.tenant,
        question.embedder,
    )
    assert (entry.text, entry.output, entry.finish_reason) == ("Where to?", "There.", "length")
    assert (entry.model, entry.source_id) == ("small-model", "r-1")
    assert (entry.input_tokens, entry.output_tokens) == (6, 2)
    assert entry.answered_at == ANSWERED_AT


def test_without_a_vector_only_the_key_is_kept() -> None:
    lesson = lesson_of(learned(), KEEPING, ANSWERED_AT)
    assert lesson is not None
    assert (lesson.vector, lesson.entry.text, lesson.entry.embedder) == (None, "", "")


@pytest.mark.parametrize(("asked_s", "kept_s"), [(0, 3600), (60, 60), (100_000, 100_000)])
def test_the_time_counts_from_the_answer(asked_s: int, kept_s: int) -> None:
    answer = learned(cache=request_pb2.CacheOptions(ttl_s=asked_s))
    lesson = lesson_of(answer, KEEPING, ANSWERED_AT + kept_s - 1)
    assert lesson is not None
    assert lesson.entry.expires_at == 1_000_001 + kept_s
    assert lesson_of(answer, KEEPING, ANSWERED_AT + kept_s + 1) is None


@pytest.mark.parametrize(
    ("tenant", "model", "asked_s", "kept_s"),
    [
        ("acme", "small-model", 0, 60),
        ("acme", "large-model", 0, 600),
        ("other", "small-model", 0, 60),
        ("other", "large-model", 0, 3600),
        ("acme", "small-model", 5000, 5000),
    ],
)
def test_the_request_says_how_long_or_else_its_tenant_and_route_the_smaller_of_them(
    tenant: str, model: str, asked_s: int, kept_s: int
) -> None:
    settings = CacheSettings(ttl_s=3600, ttl_s_by_tenant={"acme": 600}, ttl_s_by_model={"small-model": 60})
    answer = learned(cache=request_pb2.CacheOptions(ttl_s=asked_s))
    answer.request.tenant, answer.served_by.model = tenant, model
    lesson = lesson_of(answer, keeping_of(settings, heads().cacheability), ANSWERED_AT)
    assert lesson is not None
    assert lesson.entry.expires_at == 1_000_001 + kept_s


@pytest.mark.parametrize("ahead_s", [0.5, 86_400, 1e9])
def test_a_clock_that_is_ahead_keeps_no_answer_longer(ahead_s: float) -> None:
    now = ANSWERED_AT - ahead_s
    lesson = lesson_of(learned(), KEEPING, now)
    assert lesson is not None
    assert now + KEEPING.ttl_s <= lesson.entry.expires_at <= now + KEEPING.ttl_s + 1


@pytest.mark.parametrize(
    "answer",
    [
        learned(""),
        learned("€" * (MAX_OUTPUT_BYTES // 3) + "."),
        learned(cache=request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_BYPASS)),
        learned(params=request_pb2.Params(temperature=0.71)),
        learned(route=result_pb2.ROUTE_CACHE),
    ],
    ids=["empty", "too long", "bypass", "varied", "a hit"],
)
def test_what_is_not_to_be_given_again_is_not_kept(answer: envelope_pb2.Learned) -> None:
    assert lesson_of(answer, KEEPING, ANSWERED_AT) is None


@pytest.mark.parametrize("mode", [request_pb2.CACHE_MODE_REFRESH, request_pb2.CACHE_MODE_USE])
def test_the_other_modes_are_learned(mode: request_pb2.CacheMode) -> None:
    assert lesson_of(learned(cache=request_pb2.CacheOptions(mode=mode)), KEEPING, ANSWERED_AT) is not None


def test_an_answer_that_is_the_askers_own_is_not_kept() -> None:
    own = np.eye(PERSONAL + 1, 384, dtype=np.float32)[PERSONAL]
    assert lesson_of(learned(embedding=pack(own, "embedder-1", 5)), KEEPING, ANSWERED_AT) is None
    # By another embedder the head cannot say, and nothing in the words is against it.
    assert lesson_of(learned(embedding=pack(own, "embedder-2", 5)), KEEPING, ANSWERED_AT) is not None
    for embedding in (None, pack(VECTOR, "embedder-2", 5)):
        answer = learned("It is 17.", embedding=embedding)
        answer.request.messages[0].content = "What is my balance?"
        assert lesson_of(answer, KEEPING, ANSWERED_AT) is None
