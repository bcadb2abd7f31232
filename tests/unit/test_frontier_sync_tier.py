"""The sync tier over a real gRPC server: what it refuses, and calls of one id that come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2_grpc
from millpond_core.cache_client import Cache
from millpond_core.clock import SystemClock
from millpond_core.publisher import Publisher
from millpond_core.result import Answer
from millpond_core.telemetry import Tracing
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSettings
from millpond_frontier.sync_tier import SyncTier

PATIENCE_S = 60
SETTINGS = FrontierSettings.model_validate(
    {"kafka_bootstrap": "127.0.0.1:1", "kafka": {"log_level": "0"}, "frontier": {"publish_timeout_s": 0.01}}
)
"""Without Kafka."""


def crashed(failure: BaseException) -> None:
    raise failure


@asynccontextmanager
async def served(providers: Mapping[str, Provider]) -> AsyncGenerator[str]:
    """Its address. No cache is there."""
    tracing = Tracing()
    cache, publisher = Cache("127.0.0.1:1", 0.1, tracing), Publisher(SETTINGS, crashed, "an answer")
    tier = SyncTier(SETTINGS, providers, cache, publisher, clock=SystemClock(), tracing=tracing, crashed=crashed)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((tier.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await tier.drain()
        await server.stop(None)
        await publisher.close()
        await cache.close()
        for provider in providers.values():
            await provider.close()


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
@pytest.mark.parametrize(
    ("sent", "code"), [(b"\xff\xff\xff", "malformed"), (b"\xf8\x06\x01", "unknown_field"), (b"", "empty_messages")]
)
async def test_what_is_no_request_is_an_invalid_argument(
    method: str, sent: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served({}) as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary if method == "Infer" else channel.unary_stream
        answering = call(f"/millpond.v1.Inference/{method}")(sent)
        assert await answering.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (await answering.details()).startswith(f"{code}: ")
    assert [line for line in caplog.records if line.levelno >= logging.ERROR] == []


class LingeringProvider(Provider):
    """Answers only when it is let go on, and what it is told to give up it ends no sooner either."""

    def __init__(self, settings: FrontierSettings) -> None:
        super().__init__(settings.model_of_role("frontier"), "http://127.0.0.1:1", settings.frontier, Tracing())
        self.asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.given_up = asyncio.Event()

    async def answer(
        self, routed: envelope_pb2.Routed, parent: Span, piece: Callable[[str], None] | None = None
    ) -> Answer:
        go_on = asyncio.Event()
        self.asked.put_nowait(go_on)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            await go_on.wait()
            raise
        output = result_pb2.Output(text=routed.request.messages[0].content, finish_reason="stop")
        return Answer(output, result_pb2.ServedBy(model=self.model.name), result_pb2.Usage())


async def test_a_call_that_was_given_up_may_end_after_its_successor(caplog: pytest.LogCaptureFixture) -> None:
    provider = LingeringProvider(SETTINGS)
    message = request_pb2.Message(role="user", content="How deep?")
    request = request_pb2.Request(id="one", tenant="acme", messages=[message])
    async with served({provider.model.name: provider}) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = services_pb2_grpc.InferenceStub(channel)
        async with asyncio.timeout(PATIENCE_S):
            first = stub.Infer(request)
            leaving = await provider.asked.get()
            first.cancel()
            await provider.given_up.wait()
            second = stub.Infer(request)
            (await provider.asked.get()).set()
            assert (await second).output.text == "How deep?"
            # What it still does ends before the tier is drained.
            leaving.set()
    assert [line for line in caplog.records if "Exception in callback" in line.getMessage()] == []
