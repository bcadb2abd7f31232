"""A request's parameters as the engine takes them: vLLM's SamplingParams, as JSON. Pure."""

from __future__ import annotations

import json

from millpond.v1 import request_pb2
from millpond_core.validate import answer_tokens_left


def max_tokens(request: request_pb2.Request, context_tokens: int) -> int:
    """Of the answer: as many as the request names, else the default, or what the model's context has left.

    What the request names is left as it is: the engine refuses what is too large, which is better than an answer that
    nobody asked for.
    """
    if request.params.HasField("max_tokens"):
        return request.params.max_tokens
    return answer_tokens_left(request, context_tokens)


AGAIN_TEMPERATURE = 0.7
"""Of an answer that is asked for once more, at least: the same words at 0 would get the same answer."""


def sampling(
    request: request_pb2.Request,
    context_tokens: int,
    adapter: str | None = None,
    *,
    again: bool = False,
    logprobs: bool = False,
) -> str:
    """The parameters that the request names, and two that every call has: max_tokens and temperature.

    temperature: 0 where the request names none, so that the same request has the same answer, which can be kept.
    adapter: by the vLLM backend's name for it. again: for another answer than the first one.
    """
    named = {field.name: value for field, value in request.params.ListFields()}
    if "stop" in named:
        named["stop"] = list(request.params.stop)
    if adapter is not None:
        named["lora_name"] = adapter
    if again:
        named["temperature"] = max(request.params.temperature, AGAIN_TEMPERATURE)
        named["seed"] = request.params.seed + 1
    if logprobs:
        named["logprobs"] = 1
    return json.dumps({"temperature": 0, **named, "max_tokens": max_tokens(request, context_tokens)})
