"""The port to the model that reads a cached and an asked question together, and its adapter to Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from millpond_core.embedder import ANY_OF_MANY

MODEL = "verifier"

MAX_ROWS = 64
"""The model's max_batch_size: Triton refuses a larger call."""


class VerifierUnavailable(Exception):
    """The verifier did not answer. The same call may succeed later."""


class Verifier(Protocol):
    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """pairs: (cached, asked). A logit for each, in their order. The caller bounds the time.

        Raises VerifierUnavailable.
        """
        ...

    async def close(self) -> None: ...


class TritonVerifier:
    """Implements `Verifier`. One connection, for any number of callers of one event loop; it comes back by itself."""

    def __init__(self, address: str) -> None:
        """address: Triton's gRPC address, "host:port"."""
        self._address = address
        self._client: triton.InferenceServerClient | None = None

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        calls = [self._call(pairs[first : first + MAX_ROWS]) for first in range(0, len(pairs), MAX_ROWS)]
        try:
            parts = await asyncio.gather(*calls)
        except InferenceServerException as failure:
            raise VerifierUnavailable(f"the verifier at {self._address}: {failure.message()}") from failure
        return [logit for part in parts for logit in part]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _call(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if self._client is None:
            self._client = triton.InferenceServerClient(self._address, channel_args=ANY_OF_MANY)
        columns: list[triton.InferInput] = []
        for place, name in enumerate(("cached", "asked")):
            column = triton.InferInput(name, [len(pairs), 1], "BYTES")
            column.set_data_from_numpy(np.array([[pair[place].encode()] for pair in pairs], dtype=np.object_))
            columns.append(column)
        answer: Any = await self._client.infer(MODEL, columns)
        logits = answer.as_numpy("logit")
        if logits is None or logits.size != len(pairs):
            raise VerifierUnavailable(f"the verifier at {self._address}: its answer has no logit for some pair")
        return [float(each) for each in logits.reshape(-1)]
