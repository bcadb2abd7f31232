"""Whether a request can be served as it is. Pure: the clock, the bounds and the configured models are given."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from millpond.v1 import request_pb2
from millpond_core.errors import Code, Refused
from millpond_core.identity import MAX_ID_CHARACTERS, is_id, is_tenant

ROLES = ("system", "user", "assistant")

DAY_S = 24 * 3600

BYTES_PER_TOKEN = 3
"""Of UTF-8. Measured with SmolLM2's tokenizer: 4.0 in the standard library's docstrings (of 800, 1 in 100 under 2.1 and
none over 5.8), 3.7 in its code, 2.6 in German, 2.2 in Russian, 1.7 in Chinese, 1 in digits."""

TOKENS_PER_MESSAGE = 8
"""What a chat template puts around one message."""


@dataclass(frozen=True)
class Range:
    """What a parameter may be. `words` tells a person, here and in docs/contract.md."""

    low: float
    high: float
    words: str


PARAMS = {
    "temperature": Range(0, 100, "from 0 to 100"),
    "top_p": Range(math.ulp(0.0), 1, "above 0 and at most 1"),
    "top_k": Range(0, 1 << 31, "from 0 to 2147483648"),
    "seed": Range(0, (1 << 63) - 1, "from 0 to 9223372036854775807"),
    "presence_penalty": Range(-2, 2, "from -2 to 2"),
    "frequency_penalty": Range(-2, 2, "from -2 to 2"),
    "repetition_penalty": Range(math.ulp(0.0), 100, "above 0 and at most 100"),
}
"""Ranges of the parameters that have fixed ones: those of vLLM's SamplingParams, as the generator takes them."""


DEFAULT_MAX_TOKENS = 128
"""Of an answer whose request names no bound, whichever model it goes to: the contract's, and the generator's own."""


@dataclass(frozen=True)
class Limits:
    """Bounds that a deployment may move. Times in seconds."""

    max_messages: int = 256
    """A long conversation; each message costs a template's tokens and a look at its text."""
    max_text_characters: int = 500_000
    """All messages together: some 125,000 tokens, the context of today's large models, in half a record of 1 MB."""
    max_metadata_entries: int = 32
    max_metadata_characters: int = 512
    """Of one name or value. Metadata travels through every topic and into the result: labels, not documents."""
    max_tokens: int = 32_768
    """The longest answer asked for; a model with a smaller bound refuses on its own."""
    max_stops: int = 16
    max_stop_characters: int = 256
    """Stop strings are looked for after every token, so their number and length are bounded."""
    max_deadline_s: int = DAY_S
    """How far ahead a deadline may be: less than the waiting topics are kept, so that nothing is deleted unanswered."""
    max_ttl_s: int = 30 * DAY_S
    """An answer older than a month is asked for again."""


def validate(request: request_pb2.Request, limits: Limits, models: Collection[str], now: float) -> None:
    """Refuse what cannot be served, before anything is spent on it.

    models: every name that `model` may have, "auto", "small" and "frontier" included.
    now: seconds since 1970.
    An empty id, tenant or model is one that was left out, and may be filled in before or after.
    Raises Refused with the path of the field; with DEADLINE_PASSED where the result is to be `expired`.
    """
    check_fields(request, limits)
    if request.model and request.model not in models:
        raise Refused(Code.UNKNOWN_MODEL, f"model: {request.model[:64]!r} is none of {', '.join(sorted(models))}")
    _check_deadline(request, limits, now)


def check_fields(request: request_pb2.Request, limits: Limits) -> None:
    """What can be said of a request by itself, whatever the models and the time. Raises as `validate` does."""
    _check_identity(request)
    _check_messages(request, limits)
    _check_params(request.params, limits)
    _check_metadata(request, limits)
    if request.cache.ttl_s > limits.max_ttl_s:
        raise Refused(Code.INVALID_FIELD, f"cache.ttl_s: must be at most {limits.max_ttl_s} seconds")


def has_valid_metadata(request: request_pb2.Request, limits: Limits) -> bool:
    """Whether the metadata of a request, refused for something else, may go into its result."""
    try:
        _check_metadata(request, limits)
    except Refused:
        return False
    return not any("\0" in name or "\0" in value for name, value in request.metadata.items())


def estimated_tokens(request: request_pb2.Request) -> int:
    """Tokens of the prompt, without a tokenizer: 3 bytes of UTF-8 a token, and 8 tokens a message.

    A third too many for English and code, up to a half too few for other scripts. The engine's own count is the true
    one.
    """
    return sum(
        TOKENS_PER_MESSAGE + math.ceil(len(message.content.encode()) / BYTES_PER_TOKEN) for message in request.messages
    )


def answer_tokens(params: request_pb2.Params) -> int:
    """The longest answer that a request with these asks for, in tokens."""
    return params.max_tokens if params.HasField("max_tokens") else DEFAULT_MAX_TOKENS


def answer_tokens_left(request: request_pb2.Request, context_tokens: int) -> int:
    """The same, lowered to what the prompt certainly leaves of the model's context; at least 1."""
    # Half of the estimate is fewer tokens than real text has: what fits is never cut.
    return min(answer_tokens(request.params), max(context_tokens - estimated_tokens(request) // 2, 1))


def check_context(request: request_pb2.Request, context_tokens: int) -> None:
    """Refuse a prompt that is certainly longer than a model's context.

    Half of the estimate is fewer tokens than real text has, so nothing that fits is refused; what lies between is
    left to the engine, which counts. Raises Refused.
    """
    if estimated_tokens(request) > 2 * context_tokens:
        reason = (
            f"messages: about {estimated_tokens(request)} tokens, and the model reads {context_tokens}: shorten them"
        )
        raise Refused(Code.CONTEXT_LENGTH_EXCEEDED, reason)


def _check_identity(request: request_pb2.Request) -> None:
    if request.id and not is_id(request.id):
        reason = f"id: must be 1 to {MAX_ID_CHARACTERS} printable characters; this one has {len(request.id)}"
        raise Refused(Code.INVALID_FIELD, reason)
    if request.tenant and not is_tenant(request.tenant):
        raise Refused(Code.INVALID_FIELD, "tenant: must be 1 to 64 of A-Z a-z 0-9 . _ -")


def _check_messages(request: request_pb2.Request, limits: Limits) -> None:
    messages = request.messages
    if not messages or not messages[-1].content.strip():
        raise Refused(Code.EMPTY_MESSAGES, "messages: must have at least one message, and text in the last one")
    if len(messages) > limits.max_messages:
        raise Refused(Code.REQUEST_TOO_LARGE, f"messages: at most {limits.max_messages}, not {len(messages)}")
    characters = sum(len(message.content) for message in messages)
    if characters > limits.max_text_characters:
        reason = f"messages: at most {limits.max_text_characters} characters together, not {characters}"
        raise Refused(Code.REQUEST_TOO_LARGE, reason)
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise Refused(Code.INVALID_FIELD, f"messages[{index}].role: must be one of {', '.join(ROLES)}")
    for path, text in _texts(request):
        if "\0" in text:
            raise Refused(Code.INVALID_TEXT, f"{path}: must not have a NUL character (\\u0000)")


def _texts(request: request_pb2.Request) -> Iterator[tuple[str, str]]:
    """Every text that goes into a model or a database, with its path."""
    yield "model", request.model
    for index, message in enumerate(request.messages):
        yield f"messages[{index}].content", message.content
    for index, stop in enumerate(request.params.stop):
        yield f"params.stop[{index}]", stop
    for name, value in request.metadata.items():
        yield "metadata", name
        yield f"metadata.{name}", value


def _check_params(params: request_pb2.Params, limits: Limits) -> None:
    for field, value in params.ListFields():
        allowed = PARAMS.get(field.name)
        # NaN is in no range, so the comparison refuses it too.
        if allowed is not None and not allowed.low <= value <= allowed.high:
            raise Refused(Code.INVALID_PARAMS, f"params.{field.name}: must be {allowed.words}")
    max_tokens = answer_tokens(params)
    if not 1 <= max_tokens <= limits.max_tokens:
        raise Refused(Code.INVALID_PARAMS, f"params.max_tokens: must be from 1 to {limits.max_tokens}")
    if params.min_tokens > max_tokens:
        raise Refused(Code.INVALID_PARAMS, f"params.min_tokens: must not be more than max_tokens, {max_tokens}")
    if len(params.stop) > limits.max_stops:
        raise Refused(Code.INVALID_PARAMS, f"params.stop: at most {limits.max_stops} strings")
    if not all(1 <= len(stop) <= limits.max_stop_characters for stop in params.stop):
        raise Refused(Code.INVALID_PARAMS, f"params.stop: a string has 1 to {limits.max_stop_characters} characters")


def _check_metadata(request: request_pb2.Request, limits: Limits) -> None:
    if len(request.metadata) > limits.max_metadata_entries:
        raise Refused(Code.INVALID_FIELD, f"metadata: at most {limits.max_metadata_entries} entries")
    most = limits.max_metadata_characters
    if any(len(name) > most or len(value) > most for name, value in request.metadata.items()):
        raise Refused(Code.INVALID_FIELD, f"metadata: names and values have at most {most} characters each")


def _check_deadline(request: request_pb2.Request, limits: Limits, now: float) -> None:
    if not request.HasField("deadline"):
        return
    left_s = request.deadline.seconds + request.deadline.nanos / 1e9 - now
    if left_s < 0:
        raise Refused(Code.DEADLINE_PASSED, f"deadline: passed {-left_s:.0f} s before the request was read")
    if left_s > limits.max_deadline_s:
        raise Refused(Code.INVALID_FIELD, f"deadline: must be at most {limits.max_deadline_s} seconds ahead")
