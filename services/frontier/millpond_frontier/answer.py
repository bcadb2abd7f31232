"""From what a provider sends to an answer, whole or in pieces. Pure: it takes whatever JSON there may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from millpond.v1 import request_pb2, result_pb2
from millpond_core.errors import Code
from millpond_core.validate import estimated_tokens
from millpond_frontier.attempt import CallFailed

BYTES_PER_TOKEN = 4
"""English text, by most tokenizers."""

LARGEST_BYTES = 500_000
"""Of an answer's text in UTF-8. Written in any format, and beside its request, it fits into a record of 4 MiB."""

FILTERED = "content_filter"

LARGEST_COUNT = 1 << 40
"""A provider's count of tokens beyond it is no count."""


@dataclass(frozen=True)
class Spoken:
    """A whole answer. model: as the provider calls it, "" where it does not say. estimated: it counted no tokens."""

    output: result_pb2.Output
    usage: result_pb2.Usage
    model: str
    estimated: bool


def whole(document: object, request: request_pb2.Request) -> Spoken:
    """The answer in the body of a response. Raises CallFailed where there is none that can be used."""
    choice = _first(_field(document, "choices"))
    reason = _field(choice, "finish_reason")
    # Some servers give a whole answer no reason for its end.
    return _spoken(
        document, _field(_field(choice, "message"), "content"), "stop" if reason is None else reason, request
    )


class Pieces:
    """An answer as it comes, chunk by chunk. request: what it answers."""

    def __init__(self, request: request_pb2.Request) -> None:
        self._request = request
        self._bytes = 0
        self._text: list[str] = []
        self._reason: object = None
        self._said: dict[str, object] = {}

    def add(self, chunk: object) -> str:
        """The text that is new in it. Raises CallFailed where there is too much of it."""
        for name in ("usage", "model"):
            if value := _field(chunk, name):
                self._said[name] = value
        choice = _first(_field(chunk, "choices"))
        self._reason = _field(choice, "finish_reason") or self._reason
        text = _field(_field(choice, "delta"), "content")
        new = _clean(text) if isinstance(text, str) else ""
        self._text.append(new)
        self._bytes += len(new.encode())
        if self._bytes > LARGEST_BYTES:
            raise _too_long(self.usage())
        return new

    def spoken(self) -> Spoken:
        """When no more comes. Raises CallFailed; an answer without a reason for its end was broken off."""
        return _spoken(self._said, "".join(self._text), self._reason, self._request)

    def usage(self) -> result_pb2.Usage:
        """Of a stream that was broken off: as counted, else estimated from what came."""
        counted = _counted(_field(self._said, "usage"))
        return counted or estimated_usage(self._request, "".join(self._text))


def estimated_usage(request: request_pb2.Request, text: str) -> result_pb2.Usage:
    """Where the provider counts no tokens, rather than to bill none."""
    written = -(-len(text.encode()) // BYTES_PER_TOKEN)
    return result_pb2.Usage(input_tokens=estimated_tokens(request), output_tokens=written)


def _spoken(document: object, content: object, reason: object, request: request_pb2.Request) -> Spoken:
    counted = _counted(_field(document, "usage"))
    text = _clean(content) if isinstance(content, str) else ""
    if reason == FILTERED:
        message = "the provider's content filter stopped the answer: change the prompt"
        raise CallFailed(Code.PROVIDER_REFUSED, message, retryable=False, usage=counted)
    if not text:
        raise CallFailed(Code.PROVIDER_ERROR, "the provider's answer has no text", retryable=True, usage=counted)
    usage = counted or estimated_usage(request, text)
    if len(text.encode()) > LARGEST_BYTES:
        raise _too_long(usage)
    if not isinstance(reason, str):
        raise CallFailed(Code.PROVIDER_ERROR, "the provider's answer was broken off", retryable=True, usage=usage)
    output = result_pb2.Output(text=text, finish_reason="length" if reason == "length" else "stop")
    model = _field(document, "model")
    return Spoken(output, usage, _clean(model) if isinstance(model, str) else "", counted is None)


def _too_long(usage: result_pb2.Usage) -> CallFailed:
    """Asked again, the model would write as much, and be paid for it again."""
    message = f"the provider's answer has more than {LARGEST_BYTES} bytes: lower params.max_tokens"
    return CallFailed(Code.PROVIDER_ERROR, message, retryable=False, usage=usage)


def _counted(usage: object) -> result_pb2.Usage | None:
    read, written = _field(usage, "prompt_tokens"), _field(usage, "completion_tokens")
    if not isinstance(read, int) or not isinstance(written, int):
        return None
    if not (0 <= read < LARGEST_COUNT and 0 <= written < LARGEST_COUNT):
        return None
    return result_pb2.Usage(input_tokens=read, output_tokens=written)


def _clean(text: str) -> str:
    """JSON may hold half a character (a lone surrogate), protobuf may not."""
    return text.encode("utf-8", "replace").decode()


def _field(value: object, name: str) -> object:
    return cast(dict[str, Any], value).get(name) if isinstance(value, dict) else None


def _first(value: object) -> object:
    return cast(list[object], value)[0] if isinstance(value, list) and value else None
