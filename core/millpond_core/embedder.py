"""The embedder in Triton, or another encoder of its kind, asked over gRPC.

Triton batches what many callers ask at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from millpond.v1 import envelope_pb2
from millpond_core import metrics
from millpond_core.embedding import READS_TOKENS, pack
from millpond_core.errors import Code, EngineError

MODEL = "embedder"

MAX_ROWS = 64
"""The model's max_batch_size: Triton refuses a larger call."""

TIMEOUT_S = 0.25
"""A request goes on without a vector after it: rules and exact matches need none."""

VERSION_KNOWN_S = 5.0
"""How long a version counts as known: less than a Triton with other weights takes to come up in its place."""

LOOKED_AT_CHARACTERS = 16 * READS_TOKENS
"""Of a text. More would hardly change the vector, and half a million of them would keep the tokenizer for a second."""

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By default the tries to reach a server that is away come to lie two minutes apart.
    ("grpc.max_reconnect_backoff_ms", 1000),
]

ANY_OF_MANY = [*CHANNEL, ("grpc.lb_policy_name", "round_robin")]
"""Where a name stands for several that are alike: by default all calls go to the first one for ever."""


class Embedder:
    """One connection, for any number of callers of one event loop; it comes back by itself.

    address: Triton's gRPC address, "host:port". timeout_s: of one call of `embed` that brings none of its own.
    """

    def __init__(self, address: str, timeout_s: float = TIMEOUT_S, model: str = MODEL) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._model = model
        self._client: triton.InferenceServerClient | None = None
        self._version = ""
        self._version_read_at = -VERSION_KNOWN_S

    async def embed(self, texts: Sequence[str], timeout_s: float | None = None) -> list[envelope_pb2.Embedding]:
        """One embedding per text, in their order. "" and texts longer than the embedder reads are embedded too.

        `tokens` says of every text whether the embedder reads all of it; of very long ones, no more.

        Raises EngineError, retryable: ENGINE_UNAVAILABLE when no answer came in time, ENGINE_ERROR when it was one.
        """
        began = time.monotonic()
        timeout_s = timeout_s or self._timeout_s
        async with self._answering(timeout_s):
            version = await self._current_version()
            calls = [self._call(texts[first : first + MAX_ROWS]) for first in range(0, len(texts), MAX_ROWS)]
            parts = await asyncio.gather(*calls)
        metrics.EMBEDDER_SECONDS.observe(time.monotonic() - began)
        rows = [row for vectors, counts in parts for row in zip(vectors, counts, strict=True)]
        return [
            pack(vector, version, _tokens(text, int(count))) for text, (vector, count) in zip(texts, rows, strict=True)
        ]

    async def version(self) -> str:
        """Of the weights that answer now. Raises EngineError, as `embed` does."""
        async with self._answering(self._timeout_s):
            return await self._current_version()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    @asynccontextmanager
    async def _answering(self, timeout_s: float) -> AsyncGenerator[None]:
        """What Triton does not answer in time, or answers with an error, raises EngineError."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as failure:
            raise self._failed("timeout", Code.ENGINE_UNAVAILABLE, f"no answer in {timeout_s} s") from failure
        except InferenceServerException as failure:
            away = failure.status() in ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND", "StatusCode.CANCELLED")
            reason, code = ("unavailable", Code.ENGINE_UNAVAILABLE) if away else ("refused", Code.ENGINE_ERROR)
            raise self._failed(reason, code, failure.message()) from failure

    def _failed(self, reason: str, code: Code, message: str) -> EngineError:
        # Whoever answers next may be another embedder.
        self._version_read_at = -VERSION_KNOWN_S
        metrics.EMBEDDER_FAILURES.labels(reason).inc()
        return EngineError(code, f"the {self._model} at {self._address}: {message}", retryable=True)

    def _connected(self) -> triton.InferenceServerClient:
        """Made at the first call, inside the event loop that it belongs to."""
        if self._client is None:
            self._client = triton.InferenceServerClient(self._address, channel_args=ANY_OF_MANY)
        return self._client

    async def _current_version(self) -> str:
        if time.monotonic() - self._version_read_at >= VERSION_KNOWN_S:
            answer: Any = await self._connected().get_model_config(self._model)
            self._version = answer.config.parameters["version"].string_value
            self._version_read_at = time.monotonic()
        return self._version

    async def _call(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Vectors [rows, dimension] and tokens [rows]. Raises EngineError."""
        column = triton.InferInput("text", [len(texts), 1], "BYTES")
        column.set_data_from_numpy(
            np.array([[text[:LOOKED_AT_CHARACTERS].encode()] for text in texts], dtype=np.object_)
        )
        result: Any = await self._connected().infer(self._model, [column])
        vectors, tokens = result.as_numpy("embedding"), result.as_numpy("tokens")
        if vectors is None or tokens is None or not len(vectors) == tokens.size == len(texts):
            raise self._failed("unreadable", Code.ENGINE_ERROR, "its answer has no vector or no count for some text")
        return vectors, tokens.reshape(-1)


def _tokens(text: str, counted: int) -> int:
    """counted: of what was looked at."""
    return counted if len(text) <= LOOKED_AT_CHARACTERS else max(counted, READS_TOKENS + 1)
