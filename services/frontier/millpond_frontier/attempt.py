"""From a request to a provider's call, and from the call's failure to what is done next. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import httpx2
import openai

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.identity import key_of
from millpond_core.settings import ModelSettings
from millpond_core.validate import answer_tokens_left, check_context
from millpond_frontier.settings import FrontierSection

OPENAI_PARAMS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")

ENGINE_PARAMS = ("top_k", "min_tokens", "repetition_penalty")
"""Parameters that are not OpenAI's, and that servers of open models take beside its own."""

LLAMA_NAMES = {"repetition_penalty": "repeat_penalty"}
"""llama.cpp has another name for one of them; it is sent under both, and such servers ignore what they do not know."""

LONGEST_WAIT_S = 3600.0
"""A provider that asks for more is asked again all the same: it may have been a mistake, or mended."""

UNAUTHORISED = (401, 403)
RATE_LIMITED = 429
AWAY = (502, 503, 504)
"""A gateway's word that nobody is behind it, and a server's that it takes nobody just now."""

LATER = (408, 409, 425)
"""Refusals of this moment, not of the request."""

CONTEXT_CODES = ("context_length_exceeded", "exceed_context_size_error")
"""What OpenAI and llama.cpp call a prompt that is too long, as error code or type."""

CONTEXT_WORDS = re.compile(r"context (length|size|window)|maximum context", re.IGNORECASE)
"""How others say it, vLLM among them."""

UNREACHED = "the provider cannot be reached"

KEY = re.compile(r"\b(sk|pk|key)-[\w*.-]{4,}", re.IGNORECASE)
"""What looks like a key of a provider."""

WORDS = 300
"""Characters of a provider's message that a result repeats."""


class CallFailed(EngineError):
    """One call of a provider failed.

    away: the endpoint serves nobody just now, so that other calls need not be tried. usage: what was used all the same.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        retryable: bool,
        after_s: float | None = None,
        away: bool = False,
        usage: result_pb2.Usage | None = None,
    ) -> None:
        super().__init__(code, message, retryable=retryable, after_s=after_s)
        self.away = away
        self.usage = usage or result_pb2.Usage()


# What is asked


def idempotency_key(tenant: str, id: str, replay: int) -> str:
    """The same for every call for one request, and telling the provider nothing about it."""
    return hashlib.sha256(key_of(tenant, id, replay)).hexdigest()


def arguments(request: request_pb2.Request, model: ModelSettings, own: FrontierSection) -> dict[str, Any]:
    """The body of a call of /chat/completions.

    Raises Refused for a prompt that is certainly too long, and for a parameter that the provider does not take.
    """
    check_context(request, model.context_tokens)
    named = {field.name: value for field, value in request.params.ListFields()}
    extra = [name for name in ENGINE_PARAMS if name in named]
    if extra and not own.engine_params:
        raise Refused(Code.INVALID_PARAMS, f"params.{extra[0]}: {model.name}'s provider does not take it: leave it out")
    body: dict[str, Any] = {
        "model": model.provider_model or model.name,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        own.max_tokens_name: answer_tokens_left(request, model.context_tokens),
    }
    if own.repeatable:
        body["temperature"] = 0
    for name in (*OPENAI_PARAMS, *extra):
        if name in named:
            body[name] = named[name]
            if name in LLAMA_NAMES:
                body[LLAMA_NAMES[name]] = named[name]
    if request.params.stop:
        body["stop"] = list(request.params.stop)
    return body


# What a failure means


def error_of(failure: Exception, key_variable: str, key: str = "") -> CallFailed:  # noqa: PLR0911 - a meaning each
    """What a failed call means. Only a refused request repeats the provider's words, to the one who asked.

    failure: of the openai client, or what reading a body raised that is no JSON, or was cut off.
    key_variable: the environment variable that holds the provider's key. key: the key, which no message repeats.
    """
    unconnected = isinstance(failure.__cause__, httpx2.ConnectTimeout)
    match failure:
        case openai.APITimeoutError() | httpx2.TimeoutException() if not unconnected:
            return CallFailed(Code.PROVIDER_UNAVAILABLE, "the provider did not answer in time", retryable=True)
        case openai.APIConnectionError():
            return CallFailed(Code.PROVIDER_UNAVAILABLE, UNREACHED, retryable=True, away=True)
        case httpx2.RequestError():
            return CallFailed(Code.PROVIDER_UNAVAILABLE, "the provider broke its answer off", retryable=True)
        case openai.APIStatusError():
            return _of_status(failure, key_variable, key)
        case openai.APIError() if _is_of_context(failure):
            return _too_long()
        case openai.APIError():
            return CallFailed(Code.PROVIDER_ERROR, "the provider broke its answer off with an error", retryable=True)
        case _:
            message = f"the provider's answer cannot be read ({type(failure).__name__})"
            return CallFailed(Code.PROVIDER_ERROR, message, retryable=True)


def _of_status(failure: openai.APIStatusError, key_variable: str, key: str) -> CallFailed:
    status = failure.status_code
    after_s = _seconds(failure.response.headers.get("retry-after"))
    if status == RATE_LIMITED:
        message = "the provider's rate limit is reached"
        return CallFailed(Code.RATE_LIMITED, message, retryable=True, after_s=after_s, away=True)
    if status in UNAUTHORISED:
        message = f"the provider refuses the key ({status}): set {key_variable} for frontier"
        return CallFailed(Code.PROVIDER_ERROR, message, retryable=False)
    if status >= 500 or status in LATER:
        away = status in AWAY
        return CallFailed(Code.PROVIDER_UNAVAILABLE, _failed(status), retryable=True, after_s=after_s, away=away)
    if _is_of_context(failure):
        return _too_long()
    message = f"the provider refuses the request ({status}): {_words(failure, key)}"
    return CallFailed(Code.PROVIDER_REFUSED, message, retryable=False)


def _failed(status: int) -> str:
    return f"the provider failed ({status})"


AWAY_WORDS = frozenset({UNREACHED, *map(_failed, AWAY)})
"""Messages of the failures that are away, beside the rate limit's."""


def was_away(error: result_pb2.Error) -> bool:
    """Whether the call met a rate limit or nobody. Of a failure only its error is kept, whose code does not say it: a
    server that fails on one request and one that is gone are both unavailable.
    """
    return error.code == Code.RATE_LIMITED or error.message in AWAY_WORDS


def _is_of_context(failure: openai.APIError) -> bool:
    named = failure.code in CONTEXT_CODES or failure.type in CONTEXT_CODES
    return named or CONTEXT_WORDS.search(failure.message) is not None


def _too_long() -> CallFailed:
    message = "prompt and answer are longer than the model's context: send less text, or lower params.max_tokens"
    return CallFailed(Code.CONTEXT_LENGTH_EXCEEDED, message, retryable=False)


def _words(failure: openai.APIError, key: str) -> str:
    """The provider's message, in one line, without anything that looks like a key."""
    said = failure.body.get("message") if isinstance(failure.body, dict) else None
    text = said if isinstance(said, str) else failure.message
    if key:
        text = text.replace(key, "…")
    line = KEY.sub("…", " ".join(text.split()))[:WORDS]
    # JSON may hold half a character (a lone surrogate), protobuf may not.
    return line.encode("utf-8", "replace").decode()


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the back-off."""
    return min(float(text), LONGEST_WAIT_S) if text and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text) else None


# What is done next


def attempt_of(model: str, failure: CallFailed, seconds: float) -> result_pb2.Attempt:
    return result_pb2.Attempt(
        route=result_pb2.ROUTE_FRONTIER,
        model=model,
        error=failure.to_error(),
        usage=failure.usage,
        duration_ms=round(seconds * 1000, 1),
    )


def attempts_of(routed: envelope_pb2.Routed, model: str) -> int:
    """Calls of this model that failed before; a small model's do not count."""
    return len(_of_model(routed, model))


def attempts_like(failure: CallFailed, routed: envelope_pb2.Routed, model: str) -> int:
    """Those of them that count against the same bound: a rate limit is waited out, and leaves a request its tries."""
    return sum(was_away(each.error) is failure.away for each in _of_model(routed, model))


def _of_model(routed: envelope_pb2.Routed, model: str) -> list[result_pb2.Attempt]:
    return [each for each in routed.attempts if each.route == result_pb2.ROUTE_FRONTIER and each.model == model]


def retry_after_s(
    failure: CallFailed, attempts: int, own: FrontierSection, left_s: float, chance: float
) -> float | None:
    """Seconds until the next call; None where there is to be none, since it cannot help or would come too late.

    attempts: calls that failed like this one, it included. left_s: seconds until the deadline. chance: a random number
    from 0 to 1.
    """
    most = own.max_attempts_away if failure.away else own.max_attempts
    if not failure.retryable or attempts >= most:
        return None
    wait = pause_s(attempts, own, chance) + (failure.after_s or 0.0)
    return wait if wait < left_s else None


def pause_s(failures: int, own: FrontierSection, chance: float) -> float:
    """Seconds to wait after so many failures in a row.

    Source: exponential back-off with full jitter (AWS Architecture Blog 2015).
    """
    return min(own.retry_last_s, own.retry_first_s * 2 ** min(failures - 1, 32)) * chance
