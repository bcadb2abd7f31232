"""What a provider is asked, and what its failures mean for the request."""

from __future__ import annotations

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CompletionUsage

from millpond.v1 import request_pb2
from millpond_core.errors import Code, EngineError, Refused
from millpond_frontier.attempt import arguments, error_of, idempotency_key, retry_after_s, spoken
from millpond_frontier.settings import FrontierSection

SECRET = "sk-secret and the prompt"
ASKED = httpx2.Request("POST", "http://provider/v1/chat/completions")


def request(**params: object) -> request_pb2.Request:
    message = request_pb2.Message(role="user", content="What is a mill?")
    return request_pb2.Request(id="one", messages=[message], params=request_pb2.Params(**params))  # pyright: ignore


def status(code: int, body: object = None, **headers: str) -> openai.APIStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(code, request=ASKED, headers=named)
    return openai.APIStatusError(SECRET, response=response, body=body)


def test_a_call_is_repeatable_and_bounded_unless_the_request_says_otherwise() -> None:
    plain = arguments(request(), "large", 512, engine_params=True)
    assert plain == {
        "model": "large",
        "messages": [{"role": "user", "content": "What is a mill?"}],
        "max_tokens": 512,
        "temperature": 0,
    }
    named = arguments(request(max_tokens=7, temperature=0.5, stop=["."], seed=3, top_k=5), "large", 512, True)
    assert (named["max_tokens"], named["temperature"], named["stop"], named["seed"]) == (7, 0.5, ["."], 3)
    assert named["extra_body"] == {"top_k": 5}


def test_a_parameter_that_the_provider_does_not_take_is_refused_not_dropped() -> None:
    with pytest.raises(Refused, match="min_tokens"):
        arguments(request(min_tokens=3), "large", 512, engine_params=False)


@pytest.mark.parametrize(
    ("failure", "code", "retryable"),
    [
        (status(429), Code.RATE_LIMITED, True),
        (status(500), Code.PROVIDER_UNAVAILABLE, True),
        (status(503), Code.PROVIDER_UNAVAILABLE, True),
        (status(401), Code.PROVIDER_ERROR, False),
        (status(400), Code.PROVIDER_REFUSED, False),
        (status(404), Code.PROVIDER_REFUSED, False),
        (status(400, {"code": "context_length_exceeded"}), Code.CONTEXT_LENGTH_EXCEEDED, False),
        (status(400, {"type": "exceed_context_size_error"}), Code.CONTEXT_LENGTH_EXCEEDED, False),
        (openai.APITimeoutError(ASKED), Code.PROVIDER_UNAVAILABLE, True),
        (openai.APIConnectionError(request=ASKED), Code.PROVIDER_UNAVAILABLE, True),
        (ValueError(SECRET), Code.PROVIDER_ERROR, True),
        (IndexError(SECRET), Code.PROVIDER_ERROR, True),
    ],
)
def test_every_failure_has_a_code_and_repeats_nothing_of_the_providers_words(
    failure: Exception, code: Code, retryable: bool
) -> None:
    error = error_of(failure, "THE_KEY")
    assert (error.code, error.retryable) == (code, retryable)
    assert SECRET not in str(error)


def test_a_refused_key_says_which_variable_to_set() -> None:
    assert "THE_KEY" in str(error_of(status(403), "THE_KEY"))


def test_the_providers_wait_is_kept() -> None:
    assert error_of(status(429, retry_after="17"), "K").after_s == 17
    assert error_of(status(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), "K").after_s is None


@pytest.mark.parametrize("text", [None, ""])
def test_an_empty_answer_is_no_answer(text: str | None) -> None:
    with pytest.raises(EngineError):
        spoken(request(), text, "stop", None)


def test_tokens_are_the_providers_count_or_estimated_but_never_none() -> None:
    counted = CompletionUsage(prompt_tokens=11, completion_tokens=3, total_tokens=14)
    assert spoken(request(), "A machine.", "length", counted).usage.input_tokens == 11
    assert spoken(request(), "A machine.", "length", counted).output.finish_reason == "length"
    estimated = spoken(request(), "A", None, None).usage
    assert estimated.input_tokens > 0
    assert estimated.output_tokens > 0


@given(st.integers(1, 50), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 600)))
@settings(deadline=None)
def test_waits_are_bounded_and_not_shorter_than_asked_for(attempts: int, chance: float, asked: float | None) -> None:
    own = FrontierSection()
    error = EngineError(Code.RATE_LIMITED, "slow down", retryable=True, after_s=asked)
    wait = retry_after_s(error, attempts, own, chance)
    if attempts >= own.max_attempts:
        assert wait is None
    else:
        assert wait is not None
        assert (asked or 0) <= wait <= max(own.retry_last_s, asked or 0)


def test_what_cannot_succeed_is_not_tried_again() -> None:
    assert retry_after_s(EngineError(Code.PROVIDER_REFUSED, "no", retryable=False), 1, FrontierSection(), 1) is None


def test_a_key_is_the_same_for_every_call_and_another_for_another_request() -> None:
    assert idempotency_key("a", "b", 0) == idempotency_key("a", "b", 0)
    assert len({idempotency_key(*each) for each in (("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0))}) == 4
    assert "invoice" not in idempotency_key("acme", "invoice", 0)
