"""One call of a provider over HTTP: whatever a server does with it ends in an answer or a failure that has a code."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from provider_served import listening

from millpond.v1 import envelope_pb2, request_pb2
from millpond_core import topics
from millpond_core.errors import Code
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing
from millpond_frontier.answer import LARGEST_BYTES
from millpond_frontier.attempt import CallFailed
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSection

PATIENCE_S = 60
PIECE = "mill " * 1000


def ignored(_: str) -> None: ...


both = pytest.mark.parametrize("piece", [None, ignored], ids=["whole", "streamed"])


class Endpoint:
    """cut: the status of an answer whose body breaks off. Without one it talks on and on."""

    def __init__(self, cut: int = 0) -> None:
        self._cut = cut

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if self._cut:
            return await self._break_off(request)
        if not (await request.json()).get("stream"):
            message = {"role": "assistant", "content": PIECE * 200}
            return web.json_response({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        # It ends with the call.
        while True:
            chunk = {"choices": [{"index": 0, "delta": {"content": PIECE}, "finish_reason": None}]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    async def _break_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self._cut, headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(b'{"error": ')
        assert request.transport is not None
        request.transport.close()
        return response


@asynccontextmanager
async def provider(endpoint: Endpoint) -> AsyncGenerator[Provider]:
    async with listening(endpoint.chat) as url:
        own = FrontierSection(call_timeout_s=PATIENCE_S)
        made = Provider(Settings().model_of_role("frontier"), url, own, Tracing())
        yield made
        await made.close()


async def failure_of(asked: Provider, piece: Callable[[str], None] | None) -> CallFailed:
    message = request_pb2.Message(role="user", content="How deep?")
    routed = envelope_pb2.Routed(request=request_pb2.Request(id="one", tenant="acme", messages=[message]))
    with pytest.raises(CallFailed) as failure:
        await asked.answer(routed, Tracing().send(topics.FRONTIER, None), piece)
    return failure.value


@both
@pytest.mark.parametrize("status", [200, 400, 429, 500, 503])
async def test_an_answer_that_is_cut_off_is_tried_again(status: int, piece: Callable[[str], None] | None) -> None:
    async with provider(Endpoint(status)) as asked:
        failure = await failure_of(asked, piece)
    assert (failure.code, failure.retryable) == (Code.PROVIDER_UNAVAILABLE, True)


@both
async def test_an_answer_without_end_is_given_up_for_good(piece: Callable[[str], None] | None) -> None:
    heard: list[str] = []
    async with provider(Endpoint()) as asked:
        failure = await failure_of(asked, piece and heard.append)
    assert (failure.code, failure.retryable) == (Code.PROVIDER_ERROR, False)
    assert failure.usage.output_tokens > 0
    assert sum(map(len, heard)) <= LARGEST_BYTES
