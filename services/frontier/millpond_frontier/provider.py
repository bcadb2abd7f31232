"""One model at an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core import metrics, telemetry
from millpond_core.errors import Code
from millpond_core.result import Answer
from millpond_core.settings import ModelSettings
from millpond_core.telemetry import Tracing
from millpond_core.validate import estimated_tokens
from millpond_frontier.answer import Pieces, Spoken, whole
from millpond_frontier.attempt import CallFailed, arguments, attempts_of, error_of, idempotency_key
from millpond_frontier.settings import FrontierSection

# At info they log every call's address, at debug the prompt; every call is a span, and each failure is logged by us.
for name in ("httpx2", "openai"):
    logging.getLogger(name).setLevel(logging.WARNING)

PATH = "/chat/completions"

NO_KEY = "none"
"""The client wants a key also where the endpoint does not."""

CONNECT_S = 5.0
"""Seconds to connect: an endpoint that does not even take the connection is away."""

ESTIMATED = "usage.estimated"
"""The reason in a decision which says that the provider counted no tokens."""

UNREADABLE = (openai.APIError, httpx2.RequestError, ValueError, RecursionError)
"""What a call may raise: the last two for an answer that is no JSON, or absurdly deep. Where the body of an error is
cut off, the openai client passes on what its own client of HTTP says."""


class Provider:
    """Safe for any number of callers of one event loop."""

    def __init__(self, model: ModelSettings, base_url: str, own: FrontierSection, tracing: Tracing) -> None:
        """base_url: of the endpoint, where the model names none."""
        key = model.api_key()
        self.model = model
        self._own = own
        self._key = key.get_secret_value() if key else ""
        self._tracing = tracing
        self._client = AsyncOpenAI(
            base_url=model.base_url or base_url,
            api_key=self._key or NO_KEY,
            timeout=openai.Timeout(own.call_timeout_s, connect=CONNECT_S),
            # Retries are ours: each is recorded, and waits in Kafka.
            max_retries=0,
        )

    async def answer(
        self, routed: envelope_pb2.Routed, parent: Span, piece: Callable[[str], None] | None = None
    ) -> Answer:
        """The model's answer, from one call. piece: hears the text bit by bit as it comes.

        Raises CallFailed, or Refused where the provider need not be asked. Cancelled, it ends the call.
        """
        name, request = self.model.name, routed.request
        body = arguments(request, self.model, self._own)
        attributes = {
            telemetry.GEN_AI_PROVIDER: self.model.kind,
            telemetry.MAX_TOKENS: body[self._own.max_tokens_name],
            telemetry.ATTEMPT: attempts_of(routed, name) + 1,
        }
        headers = {"Idempotency-Key": idempotency_key(request.tenant, request.id, routed.replay)}
        span = self._tracing.chat(name, parent, attributes)
        began = time.monotonic()
        outcome = "cancelled"
        try:
            spoken = await self._call(body, headers, request, piece)
            outcome = "ok"
            self._describe(span, spoken)
        except CallFailed as failure:
            outcome = failure.code
            self._count(failure.usage)
            raise
        except asyncio.CancelledError:
            # What it wrote until now is not known; the prompt was read.
            metrics.WASTED_TOKENS.labels(name).inc(estimated_tokens(request))
            raise
        finally:
            if outcome != "ok":
                span.set_attribute(telemetry.ERROR_TYPE, outcome)
            span.end()
            metrics.ENGINE_SECONDS.labels(name, outcome).observe(time.monotonic() - began)
        self._count(spoken.usage)
        if spoken.estimated:
            routed.decision.reasons.add(code=ESTIMATED)
        return Answer(spoken.output, result_pb2.ServedBy(route=result_pb2.ROUTE_FRONTIER, model=name), spoken.usage)

    async def close(self) -> None:
        await self._client.close()

    async def _call(
        self,
        body: dict[str, Any],
        headers: dict[str, str],
        request: request_pb2.Request,
        piece: Callable[[str], None] | None,
    ) -> Spoken:
        try:
            # The client's time-out is of silence; this one is of the whole answer.
            async with asyncio.timeout(self._own.call_timeout_s):
                if piece is None:
                    document = await self._client.post(PATH, cast_to=object, body=body, options={"headers": headers})
                    return whole(document, request)
                return await self._stream(body, headers, request, piece)
        except TimeoutError as failure:
            message = f"the provider did not finish its answer in {self._own.call_timeout_s:g} s"
            raise CallFailed(Code.PROVIDER_UNAVAILABLE, message, retryable=True) from failure
        except UNREADABLE as failure:
            raise error_of(failure, self.model.api_key_env, self._key) from failure

    async def _stream(
        self,
        body: dict[str, Any],
        headers: dict[str, str],
        request: request_pb2.Request,
        piece: Callable[[str], None],
    ) -> Spoken:
        pieces = Pieces(request)
        stream = await self._client.post(
            PATH,
            cast_to=object,
            body={**body, "stream": True, "stream_options": {"include_usage": True}},
            options={"headers": headers},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        try:
            async with stream:
                async for chunk in stream:
                    if text := pieces.add(chunk):
                        piece(text)
        except UNREADABLE as failure:
            error = error_of(failure, self.model.api_key_env, self._key)
            error.usage.CopyFrom(pieces.usage())
            raise error from failure
        return pieces.spoken()

    def _describe(self, span: Span, spoken: Spoken) -> None:
        if span.is_recording():
            span.set_attribute(telemetry.RESPONSE_MODEL, spoken.model or self.model.name)
            span.set_attribute(telemetry.FINISH_REASONS, (spoken.output.finish_reason,))
            span.set_attribute(telemetry.INPUT_TOKENS, spoken.usage.input_tokens)
            span.set_attribute(telemetry.OUTPUT_TOKENS, spoken.usage.output_tokens)

    def _count(self, usage: result_pb2.Usage) -> None:
        metrics.INPUT_TOKENS.labels(self.model.name).inc(usage.input_tokens)
        metrics.OUTPUT_TOKENS.labels(self.model.name).inc(usage.output_tokens)
