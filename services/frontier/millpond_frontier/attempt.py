"""From a request to a provider's call, and from what came of it to what is done next. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import openai
from openai.types import CompletionUsage

from millpond.v1 import request_pb2, result_pb2
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.identity import key_of
from millpond_core.validate import estimated_tokens
from millpond_frontier.settings import FrontierSection

ENGINE_PARAMS = ("top_k", "min_tokens", "repetition_penalty")
"""Parameters that are not OpenAI's, and that servers of open models take beside its own."""

PLAIN_PARAMS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")

RATE_LIMITED, UNAUTHORISED = 429, (401, 403)
CONTEXT_CODES = ("context_length_exceeded", "exceed_context_size_error")
"""What OpenAI and llama.cpp call a prompt that is too long, as error code or type."""


def idempotency_key(tenant: str, id: str, replay: int) -> str:
    """The same for every call for one request, and telling the provider nothing about it."""
    return hashlib.sha256(key_of(tenant, id, replay)).hexdigest()


def arguments(request: request_pb2.Request, model: str, default_max_tokens: int, engine_params: bool) -> dict[str, Any]:
    """What chat.completions.create is called with. model: the provider's own name of it.

    A request that names no temperature gets 0: the same request has the same answer, which can be kept.
    Raises Refused for a parameter that this provider does not take.
    """
    named = {field.name: value for field, value in request.params.ListFields()}
    own = {name: named[name] for name in ENGINE_PARAMS if name in named}
    if own and not engine_params:
        name = next(iter(own))
        raise Refused(Code.INVALID_PARAMS, f"params.{name}: this provider does not take it: leave it out")
    call: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": named.get("max_tokens", default_max_tokens),
        "temperature": 0,
        **{name: named[name] for name in PLAIN_PARAMS if name in named},
    }
    if request.params.stop:
        call["stop"] = list(request.params.stop)
    if own:
        call["extra_body"] = own
    return call


@dataclass(frozen=True)
class Spoken:
    """A provider's whole answer."""

    output: result_pb2.Output
    usage: result_pb2.Usage


def spoken(
    request: request_pb2.Request, text: str | None, finish_reason: str | None, usage: CompletionUsage | None
) -> Spoken:
    """The answer as results carry it. Raises EngineError for one that is none.

    Where the provider counted no tokens they are estimated, rather than billed as none.
    """
    if not text:
        raise EngineError(Code.PROVIDER_ERROR, "the provider's answer is empty", retryable=True)
    counted = (
        result_pb2.Usage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
        if usage
        else result_pb2.Usage(
            input_tokens=estimated_tokens(request), output_tokens=max(len(text.encode()) // BYTES_A_TOKEN, 1)
        )
    )
    reason = "length" if finish_reason == "length" else "stop"
    return Spoken(result_pb2.Output(text=text, finish_reason=reason), counted)


BYTES_A_TOKEN = 4
"""English text, by most tokenizers."""


def error_of(failure: Exception, key_variable: str) -> EngineError:
    """What a failed call means. The provider's own words are left out: they may repeat the prompt or the key.

    key_variable: the environment variable that holds the provider's key.
    """
    match failure:
        case EngineError():
            return failure
        case openai.APITimeoutError():
            return EngineError(Code.PROVIDER_UNAVAILABLE, "the provider did not answer in time", retryable=True)
        case openai.APIStatusError():
            return _of_status(failure, key_variable)
        case openai.APIConnectionError():
            return EngineError(Code.PROVIDER_UNAVAILABLE, "the provider cannot be reached", retryable=True)
        case _:
            message = f"the provider's answer cannot be read ({type(failure).__name__})"
            return EngineError(Code.PROVIDER_ERROR, message, retryable=True)


def _of_status(failure: openai.APIStatusError, key_variable: str) -> EngineError:
    status = failure.status_code
    if status == RATE_LIMITED:
        wait = _seconds(failure.response.headers.get("retry-after"))
        return EngineError(Code.RATE_LIMITED, "the provider's rate limit is reached", retryable=True, after_s=wait)
    if status in UNAUTHORISED:
        message = f"the provider refuses the key ({status}): set {key_variable} for frontier"
        return EngineError(Code.PROVIDER_ERROR, message, retryable=False)
    if status >= 500 or status in (408, 409):
        return EngineError(Code.PROVIDER_UNAVAILABLE, f"the provider failed ({status})", retryable=True)
    if failure.code in CONTEXT_CODES or failure.type in CONTEXT_CODES:
        message = "the prompt is longer than the model reads: send less text"
        return EngineError(Code.CONTEXT_LENGTH_EXCEEDED, message, retryable=False)
    message = f"the provider refuses the request ({status}): look at its params and its model's name"
    return EngineError(Code.PROVIDER_REFUSED, message, retryable=False)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the back-off."""
    return float(text) if text and text.isdecimal() else None


def retry_after_s(error: EngineError, attempts: int, settings: FrontierSection, chance: float) -> float | None:
    """Seconds until the next call, or None where there is to be none.

    attempts: calls so far, this one included. chance: a random number from 0 to 1.
    Source: exponential back-off with full jitter (AWS Architecture Blog 2015), not below what the provider asked for.
    """
    if not error.retryable or attempts >= settings.max_attempts:
        return None
    longest = min(settings.retry_last_s, settings.retry_first_s * 2 ** (attempts - 1))
    return max(longest * chance, error.after_s or 0.0)
