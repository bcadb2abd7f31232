"""One model at an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from openai import AsyncOpenAI
from opentelemetry.trace import Span

from millpond.v1 import request_pb2, result_pb2
from millpond_core import metrics, telemetry
from millpond_core.result import Answer
from millpond_core.settings import ModelSettings
from millpond_core.telemetry import Tracing
from millpond_frontier.attempt import Spoken, arguments, error_of, idempotency_key, spoken
from millpond_frontier.settings import FrontierSection

NO_KEY = "none"
"""The client wants a key also where the endpoint does not."""


class Provider:
    """Safe for any number of callers of one event loop; `concurrency` of them are served at the same time."""

    def __init__(self, model: ModelSettings, base_url: str, settings: FrontierSection, tracing: Tracing) -> None:
        """base_url: of an endpoint that the model names none of."""
        key = model.api_key()
        self.model = model
        self._settings = settings
        self._tracing = tracing
        self._free = asyncio.Semaphore(settings.concurrency)
        self._client = AsyncOpenAI(
            base_url=model.base_url or base_url,
            api_key=key.get_secret_value() if key else NO_KEY,
            timeout=settings.call_timeout_s,
            # Retries are ours: each is recorded, and waits in Kafka.
            max_retries=0,
        )

    async def answer(
        self,
        request: request_pb2.Request,
        replay: int,
        parent: Span,
        piece: Callable[[str], None] | None = None,
    ) -> Answer:
        """The model's answer. piece: hears its text bit by bit as it comes.

        Raises EngineError, or Refused for a parameter that the provider does not take.
        """
        call = arguments(
            request,
            self.model.provider_model or self.model.name,
            self._settings.max_tokens,
            self._settings.engine_params,
        )
        headers = {"Idempotency-Key": idempotency_key(request.tenant, request.id, replay)}
        async with self._free:
            span = self._tracing.chat(self.model.name, parent, {telemetry.MAX_TOKENS: call["max_tokens"]})
            began = time.monotonic()
            outcome = "error"
            try:
                whole = await (
                    self._stream(call, headers, request, piece) if piece else self._ask(call, headers, request)
                )
                outcome = "ok"
            except Exception as failure:
                error = error_of(failure, self.model.api_key_env)
                span.set_attribute(telemetry.ERROR_TYPE, error.code)
                raise error from failure
            finally:
                metrics.ENGINE_SECONDS.labels(self.model.name, outcome).observe(time.monotonic() - began)
                if outcome == "error":
                    span.end()
        metrics.INPUT_TOKENS.labels(self.model.name).inc(whole.usage.input_tokens)
        metrics.OUTPUT_TOKENS.labels(self.model.name).inc(whole.usage.output_tokens)
        span.set_attribute(telemetry.INPUT_TOKENS, whole.usage.input_tokens)
        span.set_attribute(telemetry.OUTPUT_TOKENS, whole.usage.output_tokens)
        span.set_attribute(telemetry.FINISH_REASONS, [whole.output.finish_reason])
        span.end()
        served_by = result_pb2.ServedBy(route=result_pb2.ROUTE_FRONTIER, model=self.model.name)
        return Answer(whole.output, served_by, whole.usage)

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, call: dict[str, Any], headers: dict[str, str], request: request_pb2.Request) -> Spoken:
        completion = await self._client.chat.completions.create(**call, extra_headers=headers)
        choice = completion.choices[0]
        return spoken(request, choice.message.content, choice.finish_reason, completion.usage)

    async def _stream(
        self,
        call: dict[str, Any],
        headers: dict[str, str],
        request: request_pb2.Request,
        piece: Callable[[str], None],
    ) -> Spoken:
        text, reason, usage = "", None, None
        stream = await self._client.chat.completions.create(
            **call, stream=True, stream_options={"include_usage": True}, extra_headers=headers
        )
        async with stream:
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    reason = choice.finish_reason or reason
                    if choice.delta.content:
                        text += choice.delta.content
                        piece(choice.delta.content)
        return spoken(request, text, reason, usage)
