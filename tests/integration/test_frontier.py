"""Frontier as a process, between a real Kafka and a provider that is a real HTTP server and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster import RealKafka
from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_core import topics
from millpond_core.envelope import routed_record
from millpond_core.errors import Code
from millpond_core.telemetry import Tracing
from millpond_core.topic_admin import make_topics

PATIENCE_S = 60.0
ANSWER = ["A mill ", "grinds ", "corn."]


@dataclass
class ProviderServer:
    """An OpenAI-compatible endpoint. What a request's prompt begins with decides how it fares."""

    url: str = ""
    calls: Counter[str] = field(default_factory=Counter[str])
    keys: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    async def chat(self, asked: web.Request) -> web.StreamResponse:
        body = await asked.json()
        prompt = body["messages"][-1]["content"]
        self.calls[prompt] += 1
        self.keys.setdefault(prompt, set()).add(asked.headers.get("Idempotency-Key", ""))
        word = prompt.split()[0]
        if word == "twice" and self.calls[prompt] < 3:
            return web.json_response({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "0"})
        if word == "broken":
            return web.json_response({"error": {"message": prompt}}, status=500)
        if word == "refused":
            return web.json_response({"error": {"message": prompt}}, status=400)
        if word == "garbage":
            return web.Response(text="<html>", content_type="text/html")
        if body.get("stream"):
            return await self.stream(asked)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(ANSWER)}}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        return web.json_response({"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                                  "choices": [choice], "usage": usage})  # fmt: skip

    async def stream(self, asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(asked)
        common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        for piece in ANSWER:
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
            await response.write(b"data: " + json.dumps({**common, "choices": [choice]}).encode() + b"\n\n")
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        await response.write(b"data: " + json.dumps({**common, "choices": [], "usage": usage}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderServer]:
    server = ProviderServer()
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.chat)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/v1"
        return runner

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)
    yield server
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(PATIENCE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@dataclass(frozen=True)
class Frontier:
    kafka: RealKafka
    grpc: str


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


@pytest.fixture(scope="module")
def frontier(kafka: str, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontier]:
    """No cache is there: its look-ups are misses, not errors."""
    make_topics(AdminClient({"bootstrap.servers": kafka}), topics.TOPICS, 4, 1)
    http, rpc = free_port(), free_port()
    folder = tmp_path_factory.mktemp("frontier")
    own = {
        "MILLPOND_KAFKA_BOOTSTRAP": kafka,
        "MILLPOND_PROVIDER_BASE_URL": provider.url,
        "MILLPOND_HTTP_PORT": str(http),
        "MILLPOND_GRPC_PORT": str(rpc),
        "MILLPOND_CACHE_GRPC": f"127.0.0.1:{free_port()}",
        "MILLPOND_STATE_DIR": str(folder),
        "MILLPOND_FRONTIER__RETRY_FIRST_S": "0.1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "millpond_frontier"], stdout=log, stderr=log, env={**os.environ, **own}
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not ready(f"http://127.0.0.1:{http}/readyz"):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
        cluster = RealKafka(kafka)
        cluster.know(topics.RESULTS, 4)
        cluster.know(topics.ROUTED, 4)
        yield Frontier(cluster, f"127.0.0.1:{rpc}")
        cluster.close()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        # What a provider says may hold the prompt, and so may not be logged.
        assert "refused secret" not in Path(folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as page:
            return page.status == 200
    except (urllib.error.URLError, OSError):
        return False


def send(frontier: Frontier, id: str, prompt: str) -> None:
    routed = envelope_pb2.Routed(
        request=request_pb2.Request(id=id, tenant="acme", messages=[request_pb2.Message(role="user", content=prompt)]),
        decision=result_pb2.Decision(tier=request_pb2.TIER_STANDARD, model="stand-in-large"),
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
    )
    routed.accepted_at.GetCurrentTime()
    routed.decision.deadline.FromSeconds(int(time.time()) + 3600)
    tracing = Tracing()
    record = routed_record(topics.FRONTIER, routed, tracing.send(topics.FRONTIER, None))
    producer = Producer({**frontier.kafka.client, "partitioner": "murmur2_random"})
    producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    producer.flush()


def results(frontier: Frontier, ids: set[str]) -> dict[str, result_pb2.Result]:
    until = time.monotonic() + PATIENCE_S
    while True:
        every = [result_pb2.Result.FromString(each.value or b"") for each in frontier.kafka.records(topics.RESULTS)]
        found = {result.id: result for result in every if result.id in ids}
        if found.keys() == ids:
            assert len([result for result in every if result.id in ids]) == len(ids)
            return found
        assert time.monotonic() < until, f"no result of {ids - found.keys()}"


def test_every_request_gets_a_result_and_failures_harm_no_neighbour(
    frontier: Frontier, provider: ProviderServer
) -> None:
    prompts = {f"ok-{number}": f"fine {number}" for number in range(20)} | {
        "twice": "twice busy",
        "broken": "broken for ever",
        "refused": "refused secret",
        "garbage": "garbage comes back",
    }
    for id, prompt in prompts.items():
        send(frontier, id, prompt)
    found = results(frontier, set(prompts))
    assert {found[id].output.text for id in prompts if id.startswith("ok")} == {"".join(ANSWER)}
    assert found["ok-1"].usage == result_pb2.Usage(input_tokens=5, output_tokens=3)
    assert found["ok-1"].cost_usd == "0.000080"
    assert found["twice"].status == result_pb2.STATUS_OK
    assert [attempt.error.code for attempt in found["twice"].attempts] == [Code.RATE_LIMITED] * 2
    assert found["broken"].error.code == Code.PROVIDER_UNAVAILABLE
    assert len(found["broken"].attempts) == provider.calls["broken for ever"] == 4
    assert found["refused"].error.code == Code.PROVIDER_REFUSED
    assert found["garbage"].error.code == Code.PROVIDER_ERROR
    # Every call for one request carries one key; that of another request is another.
    assert all(len(keys) == 1 for keys in provider.keys.values())
    assert len(set.union(*provider.keys.values())) == len(provider.keys)


def asked(prompt: str, **fields: object) -> request_pb2.Request:
    return request_pb2.Request(messages=[request_pb2.Message(role="user", content=prompt)], **fields)  # pyright: ignore


def test_the_sync_tier_answers_at_once_and_hands_on_what_it_answered(frontier: Frontier) -> None:
    with grpc.insecure_channel(frontier.grpc) as channel:
        stub = services_pb2_grpc.InferenceStub(channel)
        result = stub.Infer(asked("fine sync", id="sync-1", tenant="acme"), timeout=PATIENCE_S)
        assert (result.status, result.output.text) == (result_pb2.STATUS_OK, "".join(ANSWER))
        assert "cache.unavailable" in [reason.code for reason in result.decision.reasons]
    (published,) = [
        routed
        for each in frontier.kafka.records(topics.ROUTED)
        if (routed := envelope_pb2.Routed.FromString(each.value or b"")).request.id == "sync-1"
    ]
    assert published.answered.output == result.output


def test_a_stream_is_the_answer_in_pieces_and_then_whole(frontier: Frontier) -> None:
    with grpc.insecure_channel(frontier.grpc) as channel:
        stub = services_pb2_grpc.InferenceStub(channel)
        chunks = list(stub.InferStream(asked("fine stream"), timeout=PATIENCE_S))
    pieces = [chunk.text for chunk in chunks if chunk.WhichOneof("part") == "text"]
    assert pieces == ANSWER
    assert isinstance(chunks[-1], services_pb2.Chunk)
    assert chunks[-1].result.output.text == "".join(ANSWER)
    assert chunks[-1].result.id


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (request_pb2.Request(), Code.EMPTY_MESSAGES),
        (asked("a\0b"), Code.INVALID_TEXT),
        (asked("hi", model="small"), Code.UNKNOWN_MODEL),
        (asked("hi", model="none-such"), Code.UNKNOWN_MODEL),
        (asked("word " * 20_000), Code.CONTEXT_LENGTH_EXCEEDED),
    ],
    ids=["empty", "nul", "small", "unknown", "too-long"],
)
def test_what_cannot_be_served_is_refused_with_its_code(
    frontier: Frontier, request_: request_pb2.Request, code: Code
) -> None:
    with grpc.insecure_channel(frontier.grpc) as channel, pytest.raises(grpc.RpcError) as failure:
        services_pb2_grpc.InferenceStub(channel).Infer(request_, timeout=PATIENCE_S)
    call = failure.value
    assert isinstance(call, grpc.Call)
    assert call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(call.details()).startswith(f"{code}: ")


def test_a_failed_call_is_a_result_that_says_so(frontier: Frontier) -> None:
    with grpc.insecure_channel(frontier.grpc) as channel:
        result = services_pb2_grpc.InferenceStub(channel).Infer(asked("broken sync"), timeout=PATIENCE_S)
    assert (result.status, result.error.code) == (result_pb2.STATUS_ERROR, Code.PROVIDER_UNAVAILABLE)


def test_health_is_told_by_the_standard_service(frontier: Frontier) -> None:
    with grpc.insecure_channel(frontier.grpc) as channel:
        asked_for = health_pb2.HealthCheckRequest(service="millpond.v1.Inference")
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(asked_for, timeout=PATIENCE_S)  # pyright: ignore[reportAttributeAccessIssue]
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
