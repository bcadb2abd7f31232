"""What is refused before anything is spent on it, and that nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1.request_pb2 import CACHE_MODE_ONLY, Params, Request
from millpond_core import topics
from millpond_core import validate as validation
from millpond_core.errors import Code, Refused
from millpond_core.json_codec import encode
from millpond_core.validate import Limits, answer_tokens_left, check_context, estimated_tokens, validate

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "generator" / "1"))

from sampling import (  # pyright: ignore[reportMissingImports]
    DEFAULT_MAX_TOKENS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    InvalidParams,
    parse,
)

NOW = 1_795_399_200.5
LIMITS = Limits()
MODELS = frozenset({"auto", "small", "frontier", "smollm2-135m"})


def request_of(**fields: Any) -> Request:
    whole: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}]} | fields
    return Request(**whole)


def refusal_of(request: Request, limits: Limits = LIMITS) -> Refused | None:
    try:
        validate(request, limits, MODELS, NOW)
    except Refused as refused:
        return refused
    return None


def at(seconds: float) -> Timestamp:
    """That many seconds from now; exact for halves."""
    moment = NOW + seconds
    return Timestamp(seconds=int(moment // 1), nanos=int(moment % 1 * 1e9))


@pytest.mark.parametrize(
    "request_",
    [
        request_of(),
        request_of(id="invoice-1841", tenant="acme", model="auto", metadata={"batch": "2026-11"}),
        request_of(id="x" * 256, tenant="x" * 64, model="smollm2-135m"),
        request_of(messages=[{"role": "system"}, {"role": "assistant", "content": "\x01 é 猫"}]),
        request_of(messages=[{"role": "user", "content": "x"}] * LIMITS.max_messages),
        request_of(messages=[{"role": "user", "content": "é" * LIMITS.max_text_characters}]),
        request_of(metadata={str(n): "é" * LIMITS.max_metadata_characters for n in range(LIMITS.max_metadata_entries)}),
        request_of(params={"max_tokens": LIMITS.max_tokens, "min_tokens": LIMITS.max_tokens}),
        request_of(cache={"mode": CACHE_MODE_ONLY, "ttl_s": LIMITS.max_ttl_s}),
        request_of(deadline=at(0)),
        request_of(deadline=at(LIMITS.max_deadline_s)),
    ],
)
def test_a_request_at_its_bounds_is_served(request_: Request) -> None:
    assert refusal_of(request_) is None


@pytest.mark.parametrize(
    ("request_", "code", "path"),
    [
        (request_of(id="x" * 257), Code.INVALID_FIELD, "id: "),
        (request_of(id="a\nb"), Code.INVALID_FIELD, "id: "),
        (request_of(id="a\0"), Code.INVALID_FIELD, "id: "),
        (request_of(tenant="a/b"), Code.INVALID_FIELD, "tenant: "),
        (request_of(tenant="x" * 65), Code.INVALID_FIELD, "tenant: "),
        (request_of(messages=[]), Code.EMPTY_MESSAGES, "messages: "),
        (request_of(messages=[{"role": "user"}]), Code.EMPTY_MESSAGES, "messages: "),
        (request_of(messages=[{"role": "user", "content": "x"}, {"role": "user", "content": " \n"}]),
         Code.EMPTY_MESSAGES, "messages: "),
        (request_of(messages=[{"role": "user", "content": "x"}] * (LIMITS.max_messages + 1)),
         Code.REQUEST_TOO_LARGE, "messages: "),
        (request_of(messages=[{"role": "user", "content": "x" * (LIMITS.max_text_characters // 2 + 1)}] * 2),
         Code.REQUEST_TOO_LARGE, "messages: "),
        (request_of(messages=[{"role": "tool", "content": "x"}]), Code.INVALID_FIELD, "messages[0].role: "),
        (request_of(messages=[{"content": "x"}]), Code.INVALID_FIELD, "messages[0].role: "),
        (request_of(messages=[{"role": "user", "content": "a\0b"}]), Code.INVALID_TEXT, "messages[0].content: "),
        (request_of(params={"stop": ["a", "\0"]}), Code.INVALID_TEXT, "params.stop[1]: "),
        (request_of(metadata={"a": "\0"}), Code.INVALID_TEXT, "metadata.a: "),
        (request_of(metadata={"\0": "a"}), Code.INVALID_TEXT, "metadata: "),
        (request_of(model="small\0"), Code.INVALID_TEXT, "model: "),
        (request_of(model="gpt-9"), Code.UNKNOWN_MODEL, "model: 'gpt-9' is none of auto, frontier, "),
        (request_of(params={"max_tokens": 0}), Code.INVALID_PARAMS, "params.max_tokens: "),
        (request_of(params={"max_tokens": LIMITS.max_tokens + 1}), Code.INVALID_PARAMS, "params.max_tokens: "),
        (request_of(params={"min_tokens": DEFAULT_MAX_TOKENS + 1}), Code.INVALID_PARAMS, "params.min_tokens: "),
        (request_of(params={"temperature": -0.1}), Code.INVALID_PARAMS, "params.temperature: must be from 0 to 100"),
        (request_of(params={"temperature": float("nan")}), Code.INVALID_PARAMS, "params.temperature: "),
        (request_of(params={"stop": [""]}), Code.INVALID_PARAMS, "params.stop: "),
        (request_of(metadata={str(n): "" for n in range(LIMITS.max_metadata_entries + 1)}),
         Code.INVALID_FIELD, "metadata: "),
        (request_of(metadata={"x" * (LIMITS.max_metadata_characters + 1): ""}), Code.INVALID_FIELD, "metadata: "),
        (request_of(metadata={"a": "x" * (LIMITS.max_metadata_characters + 1)}), Code.INVALID_FIELD, "metadata: "),
        (request_of(cache={"ttl_s": LIMITS.max_ttl_s + 1}), Code.INVALID_FIELD, "cache.ttl_s: "),
        (request_of(deadline=at(-0.5)), Code.DEADLINE_PASSED, "deadline: "),
        (request_of(deadline=Timestamp(seconds=0)), Code.DEADLINE_PASSED, "deadline: "),
        (request_of(deadline=at(LIMITS.max_deadline_s + 0.5)), Code.INVALID_FIELD, "deadline: "),
    ],
)  # fmt: skip
def test_a_request_beyond_its_bounds_is_refused_by_name(request_: Request, code: Code, path: str) -> None:
    refused = refusal_of(request_)
    assert refused is not None
    assert (refused.code, str(refused)[: len(path)]) == (code, path)
    assert not refused.to_error().retryable


def near(*bounds: float) -> st.SearchStrategy[float]:
    return st.sampled_from(bounds) | st.floats(-3, 101)


params = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.sampled_from([0, 1, 100, 2048, 2049]),
        "min_tokens": st.sampled_from([0, 1, 128, 129, 2049]),
        "temperature": near(0, 100),
        "top_p": near(0, 1, 1e-9),
        "top_k": st.sampled_from([0, 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1]),
        "seed": st.sampled_from([0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
        "presence_penalty": near(-2, 2),
        "frequency_penalty": near(-2, 2),
        "repetition_penalty": near(0, 100),
        "stop": st.lists(st.sampled_from(["", "a", "x" * MAX_STOP_CHARACTERS, "x" * (MAX_STOP_CHARACTERS + 1)]))
        | st.just(["a"] * MAX_STOPS)
        | st.just(["a"] * (MAX_STOPS + 1)),
    },
).map(lambda fields: Params(**fields))  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]


@settings(deadline=None, max_examples=500)
@given(params)
def test_params_are_served_exactly_where_the_generator_takes_them(params_: Params) -> None:
    """A bad parameter costs no trip through the topics, and a good one is not refused before the model sees it."""
    most = 2048
    limits = Limits(
        max_tokens=most,
        max_stops=MAX_STOPS,
        max_stop_characters=MAX_STOP_CHARACTERS,
    )
    try:
        parse(encode(params_), most)
        taken = True
    except InvalidParams:
        taken = False
    refused = refusal_of(request_of(params=params_), limits)
    assert (refused is None) == taken
    assert refused is None or refused.code == Code.INVALID_PARAMS


@given(st.text(max_size=2000), st.integers(1, 32_768), st.integers(16, 100_000))
@settings(deadline=None)
def test_an_answer_is_never_asked_to_be_longer_than_the_context(text: str, wanted: int, context: int) -> None:
    asked = request_of(messages=[{"role": "user", "content": text}], params={"max_tokens": wanted})
    assert 1 <= answer_tokens_left(asked, context) <= min(wanted, context)


def test_the_bounds_that_the_generator_has_too_are_its_own() -> None:
    assert (validation.DEFAULT_MAX_TOKENS, LIMITS.max_stops, LIMITS.max_stop_characters) == (
        DEFAULT_MAX_TOKENS,
        MAX_STOPS,
        MAX_STOP_CHARACTERS,
    )


def test_no_request_outlives_what_holds_it() -> None:
    """A waiting request is not deleted before its deadline, nor a claim before the last copy of its request."""
    longest_ms = LIMITS.max_deadline_s * 1000
    kept_ms = {topic.name: topic.retention_ms for topic in topics.TOPICS}
    waiting = (topics.ROUTED, topics.BATCH_REALTIME, topics.BATCH_STANDARD, topics.BATCH_OVERNIGHT, topics.FRONTIER)
    assert all(kept_ms[name] > longest_ms for name in waiting)
    assert kept_ms[topics.CLAIMS] > kept_ms[topics.REQUESTS] + longest_ms


def prompt(text: str) -> Request:
    return request_of(messages=[{"role": "user", "content": text}])


def test_a_longer_prompt_has_more_tokens() -> None:
    counts = [estimated_tokens(prompt("word " * words)) for words in range(1, 50)]
    assert counts == sorted(set(counts))
    assert estimated_tokens(prompt("猫" * 10)) > estimated_tokens(prompt("c" * 10))


def test_only_a_prompt_that_cannot_fit_is_refused() -> None:
    context = 100
    longest_that_may_fit = "x" * (3 * (2 * context - 8))
    check_context(prompt(longest_that_may_fit), context)
    with pytest.raises(Refused, match="messages: about 201 tokens") as refused:
        check_context(prompt(longest_that_may_fit + "x"), context)
    assert refused.value.code == Code.CONTEXT_LENGTH_EXCEEDED
