"""A Triton that answers with something else than what was asked is a failure that may be tried again, and no crash."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from millpond_cache.verifier import TritonVerifier, VerifierUnavailable
from millpond_core.embedder import Embedder
from millpond_core.errors import Code, EngineError

messages: Any = service_pb2
"""Its classes are made at run time."""


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """rows: by output, of which there are so many in every answer."""

    def __init__(self, rows: dict[str, int]) -> None:
        self._rows = rows

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        return messages.ModelConfigResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        answer = messages.ModelInferResponse(model_name=request.model_name)
        for name, rows in self._rows.items():
            answer.outputs.add(name=name, datatype="FP32", shape=[rows, 1])
            answer.raw_output_contents.append(np.ones((rows, 1), np.float32).tobytes())
        return answer


@asynccontextmanager
async def serving(rows: dict[str, int]) -> AsyncGenerator[str]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(rows), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize(
    "rows", [{}, {"embedding": 2}, {"tokens": 2}, {"embedding": 1, "tokens": 2}, {"embedding": 2, "tokens": 1}]
)
async def test_an_embedder_that_leaves_something_out_has_failed(rows: dict[str, int]) -> None:
    async with serving(rows) as address:
        embedder = Embedder(address, 60)
        with pytest.raises(EngineError) as failure:
            await embedder.embed(["one", "two"])
        assert (failure.value.code, failure.value.retryable) == (Code.ENGINE_ERROR, True)
        await embedder.close()


@pytest.mark.parametrize("rows", [{}, {"logit": 1}, {"logit": 3}])
async def test_a_verifier_that_leaves_something_out_is_away(rows: dict[str, int]) -> None:
    async with serving(rows) as address:
        verifier = TritonVerifier(address)
        with pytest.raises(VerifierUnavailable):
            await verifier.score([("a", "b"), ("c", "d")])
        await verifier.close()
