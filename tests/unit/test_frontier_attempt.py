"""What a provider is asked, and what its failures mean for the request."""

from __future__ import annotations

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.errors import Code, Refused
from millpond_core.settings import ModelSettings, Settings
from millpond_core.validate import DEFAULT_MAX_TOKENS
from millpond_frontier.attempt import (
    LONGEST_WAIT_S,
    CallFailed,
    arguments,
    attempt_of,
    attempts_like,
    attempts_of,
    error_of,
    idempotency_key,
    pause_s,
    retry_after_s,
)
from millpond_frontier.settings import FrontierSection

OWN = FrontierSection()
KEY = "sk-abcdef0123456789"
PROMPT = "the prompt of somebody"
WORDS = f"Incorrect API key provided: {KEY}. You asked: {PROMPT}"
ASKED = httpx2.Request("POST", "http://provider/v1/chat/completions")

failures = st.builds(
    CallFailed,
    st.sampled_from(Code),
    st.just("no"),
    retryable=st.booleans(),
    after_s=st.one_of(st.none(), st.floats(0, LONGEST_WAIT_S)),
    away=st.booleans(),
)


def model(**own: object) -> ModelSettings:
    large = Settings.model_validate({}).model_of_role("frontier")
    return large.model_copy(update=own)


def request(**params: object) -> request_pb2.Request:
    message = request_pb2.Message(role="user", content="What is a mill?")
    return request_pb2.Request(id="one", messages=[message], params=request_pb2.Params(**params))  # pyright: ignore


def status(code: int, body: object = None, words: str = WORDS, **headers: str) -> openai.APIStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(code, request=ASKED, headers=named)
    return openai.APIStatusError(words, response=response, body=body)


def timed_out(cause: Exception) -> openai.APITimeoutError:
    failure = openai.APITimeoutError(ASKED)
    failure.__cause__ = cause
    return failure


# What is asked


def test_a_call_is_repeatable_and_bounded_unless_the_request_says_otherwise() -> None:
    assert arguments(request(), model(provider_model="gpt"), OWN) == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "What is a mill?"}],
        "max_tokens": DEFAULT_MAX_TOKENS,
        "temperature": 0,
    }
    named = arguments(request(max_tokens=7, temperature=0.5, stop=["."], seed=3, top_k=5), model(), OWN)
    expected = {"max_tokens": 7, "temperature": 0.5, "stop": ["."], "seed": 3, "top_k": 5}
    assert {name: named[name] for name in expected} == expected


def test_a_provider_that_wants_other_names_and_its_own_temperature_gets_them() -> None:
    body = arguments(request(max_tokens=7), model(), FrontierSection(max_tokens_name="max_completion_tokens"))
    assert (body["max_completion_tokens"], "max_tokens" in body) == (7, False)
    assert "temperature" not in arguments(request(), model(), FrontierSection(repeatable=False))
    # llama.cpp's and vLLM's name for the same.
    both = arguments(request(repetition_penalty=1.5), model(), OWN)
    assert both["repetition_penalty"] == both["repeat_penalty"] == 1.5


@pytest.mark.parametrize("name", ["top_k", "min_tokens", "repetition_penalty"])
def test_a_parameter_that_the_provider_does_not_take_is_refused_not_dropped(name: str) -> None:
    with pytest.raises(Refused, match=f"params.{name}"):
        arguments(request(**{name: 3}), model(), FrontierSection(engine_params=False))


def test_a_prompt_that_is_certainly_too_long_is_not_sent() -> None:
    long = request()
    long.messages[0].content = "word " * 20_000
    with pytest.raises(Refused):
        arguments(long, model(), OWN)


def test_a_key_is_the_same_for_every_call_and_another_for_another_request() -> None:
    assert idempotency_key("a", "b", 0) == idempotency_key("a", "b", 0)
    assert len({idempotency_key(*each) for each in (("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0))}) == 4
    assert "invoice" not in idempotency_key("acme", "invoice", 0)


# What a failure means


FAILURES = pytest.mark.parametrize(
    ("failure", "code", "retryable", "away"),
    [
        (status(429), Code.RATE_LIMITED, True, True),
        (status(500), Code.PROVIDER_UNAVAILABLE, True, False),
        (status(503), Code.PROVIDER_UNAVAILABLE, True, True),
        (status(408), Code.PROVIDER_UNAVAILABLE, True, False),
        (status(401), Code.PROVIDER_ERROR, False, False),
        (status(403), Code.PROVIDER_ERROR, False, False),
        (status(400, {"code": "context_length_exceeded"}), Code.CONTEXT_LENGTH_EXCEEDED, False, False),
        (status(400, {"type": "exceed_context_size_error"}), Code.CONTEXT_LENGTH_EXCEEDED, False, False),
        (status(400, words="This model's maximum context length is 8"), Code.CONTEXT_LENGTH_EXCEEDED, False, False),
        (timed_out(httpx2.ReadTimeout("")), Code.PROVIDER_UNAVAILABLE, True, False),
        (timed_out(httpx2.ConnectTimeout("")), Code.PROVIDER_UNAVAILABLE, True, True),
        (openai.APIConnectionError(request=ASKED), Code.PROVIDER_UNAVAILABLE, True, True),
        (httpx2.RemoteProtocolError(WORDS), Code.PROVIDER_UNAVAILABLE, True, False),
        (httpx2.ReadTimeout(WORDS), Code.PROVIDER_UNAVAILABLE, True, False),
        (openai.APIError(WORDS, ASKED, body=None), Code.PROVIDER_ERROR, True, False),
        (ValueError(WORDS), Code.PROVIDER_ERROR, True, False),
    ],
)


@FAILURES
def test_a_failure_has_a_code_and_repeats_nothing_of_the_providers_words(
    failure: Exception, code: Code, retryable: bool, away: bool
) -> None:
    error = error_of(failure, "THE_KEY", KEY)
    assert (error.code, error.retryable, error.away) == (code, retryable, away)
    assert PROMPT not in str(error)
    assert KEY not in str(error)


@FAILURES
def test_what_was_met_is_known_of_a_failure_of_which_only_the_error_is_left(
    failure: Exception, code: Code, retryable: bool, away: bool
) -> None:
    failed = attempt_of("large", error_of(failure, "THE_KEY", KEY), 0.25)
    routed = envelope_pb2.Routed(attempts=[failed])
    for other in (True, False):
        asked = CallFailed(code, "no", retryable=retryable, away=other)
        assert attempts_like(asked, routed, "large") == int(other is away)


@pytest.mark.parametrize("code", [400, 404, 413, 422])
@pytest.mark.parametrize("key", ["", KEY])
def test_who_is_refused_reads_why_but_never_a_key(code: int, key: str) -> None:
    error = error_of(status(code, {"message": f"temperature:\n{WORDS}"}), "THE_KEY", key)
    assert (error.code, error.retryable) == (Code.PROVIDER_REFUSED, False)
    assert "temperature: Incorrect" in str(error)
    assert KEY not in str(error)


@given(st.integers(400, 599), st.text(), st.dictionaries(st.sampled_from(["message", "code", "type"]), st.text()))
@settings(deadline=None)
def test_whatever_a_provider_says_can_be_put_into_a_result(code: int, words: str, body: dict[str, str]) -> None:
    error = error_of(status(code, body, words), "THE_KEY")
    assert result_pb2.Error.FromString(error.to_error().SerializeToString()).code == error.code
    assert len(str(error)) < 400


def test_a_refused_key_says_which_variable_to_set() -> None:
    assert "THE_KEY" in str(error_of(status(403), "THE_KEY"))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17), ("0.5", 0.5), ("999999999", LONGEST_WAIT_S), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)],
)
def test_the_providers_wait_is_kept(header: str, seconds: float | None) -> None:
    assert error_of(status(429, retry_after=header), "K").after_s == seconds


# What is done next


@given(failures, st.integers(1, 200), st.floats(0, 1e5), st.floats(0, 1))
@settings(deadline=None)
def test_a_next_call_is_in_time_within_bounds_and_not_sooner_than_asked_for(
    failure: CallFailed, attempts: int, left_s: float, chance: float
) -> None:
    wait = retry_after_s(failure, attempts, OWN, left_s, chance)
    most = OWN.max_attempts_away if failure.away else OWN.max_attempts
    asked = failure.after_s or 0
    if not failure.retryable or attempts >= most:
        assert wait is None
    elif wait is None:
        assert asked + OWN.retry_last_s >= left_s
    else:
        assert asked <= wait <= asked + OWN.retry_last_s
        assert wait < left_s


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_up_to_the_longest(failures: int, chance: float) -> None:
    assert pause_s(failures, OWN, chance) <= pause_s(failures + 1, OWN, chance) <= OWN.retry_last_s


@given(st.lists(st.sampled_from([429, 500, 503]), max_size=OWN.max_attempts_away))
@settings(deadline=None)
def test_a_request_has_all_its_tries_however_often_the_provider_was_away(met: list[int]) -> None:
    routed = envelope_pb2.Routed()
    for code in met:
        failure = error_of(status(code), "THE_KEY")
        routed.attempts.append(attempt_of("large", failure, 0.25))
        most = OWN.max_attempts if code == 500 else OWN.max_attempts_away
        alike = [each for each in met[: len(routed.attempts)] if (each == 500) is (code == 500)]
        again = retry_after_s(failure, attempts_like(failure, routed, "large"), OWN, 1e9, 0.5)
        assert (again is None) == (len(alike) >= most)


def test_calls_of_a_small_model_do_not_count_and_what_failed_is_recorded_with_its_tokens() -> None:
    used = result_pb2.Usage(input_tokens=3)
    failed = attempt_of("large", CallFailed(Code.PROVIDER_ERROR, "no", retryable=True, usage=used), 0.25)
    assert (failed.usage, failed.duration_ms, failed.error.code) == (used, 250, Code.PROVIDER_ERROR)
    small = result_pb2.Attempt(route=result_pb2.ROUTE_SMALL, model="small")
    routed = envelope_pb2.Routed(attempts=[small, failed, small])
    assert attempts_of(routed, "large") == 1
    assert attempts_like(CallFailed(Code.PROVIDER_ERROR, "no", retryable=True), routed, "large") == 1
