"""What is no request is refused by the sync tier as by ai.requests, over a real gRPC server."""

from __future__ import annotations

import logging

import grpc
import pytest

from millpond_core.cache_client import Cache
from millpond_core.clock import ManualClock
from millpond_core.publisher import Publisher
from millpond_core.telemetry import Tracing
from millpond_frontier.settings import FrontierSettings
from millpond_frontier.sync_tier import SyncTier


def crashed(failure: BaseException) -> None:
    raise failure


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
@pytest.mark.parametrize(
    ("sent", "code"), [(b"\xff\xff\xff", "malformed"), (b"\xf8\x06\x01", "unknown_field"), (b"", "empty_messages")]
)
async def test_what_is_no_request_is_an_invalid_argument(
    method: str, sent: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Nobody is there: it is refused before anybody is asked.
    settings = FrontierSettings.model_validate({"kafka_bootstrap": "127.0.0.1:1", "kafka": {"log_level": "0"}})
    tracing = Tracing()
    cache, publisher = Cache("127.0.0.1:1", 0.1, tracing), Publisher(settings, crashed, "an answer")
    tier = SyncTier(settings, {}, cache, publisher, clock=ManualClock(), tracing=tracing, crashed=crashed)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((tier.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary if method == "Infer" else channel.unary_stream
            answering = call(f"/millpond.v1.Inference/{method}")(sent)
            assert await answering.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert (await answering.details()).startswith(f"{code}: ")
    finally:
        await server.stop(None)
        await publisher.close()
        await cache.close()
    assert [line for line in caplog.records if line.levelno >= logging.ERROR] == []
