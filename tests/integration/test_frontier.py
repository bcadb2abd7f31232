"""Frontier as a process, between a real Kafka and a provider that is a real HTTP server and misbehaves on demand.

At the end, the same in the whole stack, with the stand-in and the cache.
"""

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
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from aiohttp import web
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster import RealKafka
from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2_grpc
from millpond_cli import metrics_page
from millpond_cli.client import Requests, Results
from millpond_cli.traces import Jaeger, check
from millpond_core import telemetry, topics
from millpond_core.envelope import routed_record
from millpond_core.errors import Code
from millpond_core.telemetry import Tracing
from millpond_core.topic_admin import make_topics
from pipeline import Pipeline, collect

PATIENCE_S = 60.0
"""Until something that must come is missed."""

ANSWER = ["A mill ", "grinds ", "corn."]
WHOLE = "".join(ANSWER)
SPEECH = {"id": "1", "object": "chat.completion", "created": 1, "model": "m-1"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@dataclass
class ProviderServer:
    """An OpenAI-compatible endpoint. What a request's prompt begins with decides how it fares."""

    url: str = ""
    calls: Counter[str] = field(default_factory=Counter[str])
    order: list[str] = field(default_factory=list[str])
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    gates: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """By the second word of a prompt that begins with "hold": the call is answered once it is open."""
    left: set[str] = field(default_factory=set[str])
    """Prompts whose callers hung up while they were held."""

    def open(self, gate: str) -> None:
        self.loop.call_soon_threadsafe(self.gates[gate].set)

    async def chat(self, asked: web.Request) -> web.StreamResponse:
        body = await asked.json()
        prompt: str = body["messages"][-1]["content"]
        self.calls[prompt] += 1
        self.order.append(prompt)
        self.keys[prompt].add(asked.headers.get("Idempotency-Key", ""))
        word, *others = prompt.split()
        again = self.calls[prompt] > 1
        if word == "hold":
            await self._hold(prompt, others[0])
        refusals: dict[str, tuple[int, bool]] = {
            "twice": (429, self.calls[prompt] < 3),
            "broken": (500, True),
            "refused": (400, True),
            "unauthorised": (401, True),
            "away": (503, not again),
        }
        status, refused = refusals.get(word, (0, False))
        if refused:
            headers = {"Retry-After": "0"}
            return web.json_response({"error": {"message": f"no: {prompt}"}}, status=status, headers=headers)
        if word == "silent" and not again:
            await self._hold(prompt, prompt)
        if word == "garbage":
            return web.Response(body=b'{"choices": [' if others[0] == "json" else b"<html>", content_type=others[1])
        if word == "cut" and not again and asked.transport:
            asked.transport.close()
        if body.get("stream"):
            return await self._stream(asked, word)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WHOLE}}
        return web.json_response({**SPEECH, "choices": [choice], "usage": USAGE})

    async def _hold(self, prompt: str, gate: str) -> None:
        try:
            await self.gates[gate].wait()
        except asyncio.CancelledError:
            self.left.add(prompt)
            raise

    async def _stream(self, asked: web.Request, word: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(asked)

        async def write(**chunk: object) -> None:
            await response.write(b"data: " + json.dumps({**SPEECH, **chunk}).encode() + b"\n\n")

        for piece in ANSWER:
            await write(choices=[{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
            if word == "break" and asked.transport:
                asked.transport.close()
                return response
        await write(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        await write(choices=[], usage=USAGE)
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderServer]:
    server = ProviderServer()
    loop = server.loop

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.chat)
        runner = web.AppRunner(app, handler_cancellation=True)
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
    """A running process. http: the address of its pages. grpc: host:port."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    log: Path

    def stub(self, channel: grpc.Channel) -> Any:
        return services_pb2_grpc.InferenceStub(channel)


@contextmanager
def frontier_process(kafka: str, provider: ProviderServer, folder: Path, **environment: str) -> Generator[Frontier]:
    """No cache is there: its look-ups are misses, not errors."""
    http, rpc = free_port(), free_port()
    own = {
        "MILLPOND_KAFKA_BOOTSTRAP": kafka,
        "MILLPOND_PROVIDER_BASE_URL": provider.url,
        "MILLPOND_HTTP_PORT": str(http),
        "MILLPOND_GRPC_PORT": str(rpc),
        "MILLPOND_CACHE_GRPC": f"127.0.0.1:{free_port()}",
        "MILLPOND_STATE_DIR": str(folder),
        "MILLPOND_FRONTIER__RETRY_FIRST_S": "0.1",
        **environment,
    }
    path = folder / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "millpond_frontier"], stdout=log, stderr=log, env={**os.environ, **own}
        )
    running = Frontier(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{rpc}", path)
    try:
        yield running
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Beside:
    """A frontier and the Kafka that it reads."""

    frontier: Frontier
    kafka: RealKafka


@pytest.fixture(scope="module")
def beside(kafka: str, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    make_topics(AdminClient({"bootstrap.servers": kafka}), topics.TOPICS, 4, 1)
    folder = tmp_path_factory.mktemp("frontier")
    with frontier_process(kafka, provider, folder, MILLPOND_FRONTIER__CALL_TIMEOUT_S="5") as frontier:
        until(lambda: is_ready(frontier))
        cluster = RealKafka(kafka)
        cluster.know(topics.RESULTS, 4)
        cluster.know(topics.ROUTED, 4)
        yield Beside(frontier, cluster)
        cluster.close()
        frontier.process.terminate()
        assert frontier.process.wait(PATIENCE_S) == 0
        # What a provider says may hold the prompt, and so may not be logged.
        assert "refused secret" not in frontier.log.read_text()


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"


def is_ready(frontier: Frontier) -> bool:
    assert frontier.process.poll() is None, frontier.log.read_text()
    try:
        with urllib.request.urlopen(f"{frontier.http}/readyz", timeout=1) as page:
            return page.status == 200
    except (urllib.error.URLError, OSError):
        return False


def taken(frontier: Frontier) -> float:
    """Records of ai.frontier that the process has read."""
    samples = metrics_page.read([f"{frontier.http}/metrics"])
    return samples.total("millpond_records_taken_total", topic=topics.FRONTIER)


# The requests of ai.frontier


def send(kafka: RealKafka, id: str, prompt: str, tier: request_pb2.Tier = request_pb2.TIER_STANDARD) -> None:
    routed = envelope_pb2.Routed(
        request=request_pb2.Request(id=id, tenant="acme", messages=[request_pb2.Message(role="user", content=prompt)]),
        decision=result_pb2.Decision(tier=tier, model="stand-in-large"),
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
    )
    routed.accepted_at.GetCurrentTime()
    routed.decision.deadline.FromSeconds(int(time.time()) + 3600)
    tracing = Tracing()
    record = routed_record(topics.FRONTIER, routed, tracing.send(topics.FRONTIER, None))
    producer = Producer({**kafka.client, "partitioner": "murmur2_random"})
    producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    producer.flush()


def results(kafka: RealKafka, ids: set[str]) -> dict[str, result_pb2.Result]:
    end = time.monotonic() + PATIENCE_S
    while True:
        every = [result_pb2.Result.FromString(each.value or b"") for each in kafka.records(topics.RESULTS)]
        found = {result.id: result for result in every if result.id in ids}
        if found.keys() == ids:
            assert len([result for result in every if result.id in ids]) == len(ids)
            return found
        assert time.monotonic() < end, f"no result of {ids - found.keys()}"


def test_every_request_gets_a_result_and_failures_harm_no_neighbour(beside: Beside, provider: ProviderServer) -> None:
    prompts = {f"ok-{number}": f"fine {number}" for number in range(20)} | {
        "twice": "twice busy",
        "away": "away for once",
        "silent": "silent for once",
        "cut": "cut for once",
        "broken": "broken for ever",
        "refused": "refused secret",
        "unauthorised": "unauthorised",
        "html": "garbage html text/html",
        "half": "garbage json application/json",
    }
    for id, prompt in prompts.items():
        send(beside.kafka, id, prompt)
    found = results(beside.kafka, set(prompts))
    fine = {"twice", "away", "silent", "cut"} | {id for id in prompts if id.startswith("ok")}
    assert {id for id in prompts if found[id].status == result_pb2.STATUS_OK} == fine
    assert {found[id].output.text for id in fine} == {WHOLE}
    assert found["ok-1"].usage == result_pb2.Usage(input_tokens=5, output_tokens=3)
    assert found["ok-1"].cost_usd == "0.000080"
    codes = {id: [attempt.error.code for attempt in found[id].attempts] for id in prompts if id not in fine or id > "p"}
    assert codes == {
        "twice": [Code.RATE_LIMITED] * 2,
        "silent": [Code.PROVIDER_UNAVAILABLE],
        "broken": [Code.PROVIDER_UNAVAILABLE] * 4,
        "refused": [Code.PROVIDER_REFUSED],
        "unauthorised": [Code.PROVIDER_ERROR],
        "html": [Code.PROVIDER_ERROR] * 4,
        "half": [Code.PROVIDER_ERROR] * 4,
    }
    assert [attempt.error.code for attempt in found["cut"].attempts] == [Code.PROVIDER_UNAVAILABLE]
    assert found["broken"].error == found["broken"].attempts[-1].error
    assert "no: refused secret" in found["refused"].error.message
    assert "MILLPOND_PROVIDER_API_KEY" in found["unauthorised"].error.message
    # Every call for one request carries one key; that of another request is another.
    keys = [provider.keys[prompt] for prompt in prompts.values()]
    assert all(len(each) == 1 for each in keys)
    assert len(set.union(*keys)) == len(keys)


def test_a_realtime_request_goes_before_all_that_wait(beside: Beside, provider: ProviderServer) -> None:
    before = taken(beside.frontier)
    held = [f"hold turns {number}" for number in range(4)]
    for prompt in held:
        send(beside.kafka, prompt, prompt)
    until(lambda: all(provider.calls[prompt] for prompt in held))
    waiting = {f"wait-{number}": request_pb2.TIER_OVERNIGHT for number in range(8)}
    for id, tier in {**waiting, "urgent": request_pb2.TIER_REALTIME}.items():
        send(beside.kafka, id, id, tier)
    until(lambda: taken(beside.frontier) >= before + 13)
    provider.open("turns")
    results(beside.kafka, {*held, *waiting, "urgent"})
    later = provider.order[provider.order.index(held[0]) + len(held) :]
    assert next(prompt for prompt in later if prompt == "urgent" or prompt in waiting) == "urgent"


# The synchronous tier


def asked(prompt: str, **fields: object) -> request_pb2.Request:
    return request_pb2.Request(messages=[request_pb2.Message(role="user", content=prompt)], **fields)  # pyright: ignore


def handed_on(beside: Beside, id: str) -> list[envelope_pb2.Routed]:
    """What frontier wrote to ai.routed about the request."""
    every = [envelope_pb2.Routed.FromString(each.value or b"") for each in beside.kafka.records(topics.ROUTED)]
    return [routed for routed in every if routed.request.id == id]


@pytest.fixture
def inference(beside: Beside) -> Iterator[Any]:
    with grpc.insecure_channel(beside.frontier.grpc) as channel:
        yield beside.frontier.stub(channel)


Stub = Any
"""`InferenceStub`, whose generated methods have no types."""


def test_the_sync_tier_answers_at_once_and_hands_on_what_it_answered(beside: Beside, inference: Stub) -> None:
    result = inference.Infer(asked("fine sync", id="sync-1", tenant="acme"), timeout=PATIENCE_S)
    assert (result.status, result.output.text) == (result_pb2.STATUS_OK, WHOLE)
    assert "cache.unavailable" in [reason.code for reason in result.decision.reasons]
    assert len(result.trace_id) == 32
    (published,) = handed_on(beside, "sync-1")
    assert published.answered.output == result.output


def test_a_stream_is_the_answer_in_pieces_and_then_whole(inference: Stub) -> None:
    chunks = list(inference.InferStream(asked("fine stream"), timeout=PATIENCE_S))
    pieces = [chunk.text for chunk in chunks if chunk.WhichOneof("part") == "text"]
    assert pieces == ANSWER
    assert chunks[-1].result.output.text == WHOLE
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
    inference: Stub, request_: request_pb2.Request, code: Code
) -> None:
    failure = error_of(lambda: inference.Infer(request_, timeout=PATIENCE_S))
    assert failure.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(failure.details()).startswith(f"{code}: ")


def test_a_failed_call_is_tried_again_and_then_a_result_that_says_so(beside: Beside, inference: Stub) -> None:
    result = inference.Infer(asked("broken sync", id="sync-broken"), timeout=PATIENCE_S)
    assert (result.status, result.error.code) == (result_pb2.STATUS_ERROR, Code.PROVIDER_UNAVAILABLE)
    assert len(result.attempts) == 4
    (published,) = handed_on(beside, "sync-broken")
    assert (published.answered.error, list(published.attempts)) == (result.error, list(result.attempts))
    assert inference.Infer(asked("twice sync"), timeout=PATIENCE_S).output.text == WHOLE


def test_a_stream_that_breaks_is_no_answer_and_is_not_begun_anew(provider: ProviderServer, inference: Stub) -> None:
    chunks = list(inference.InferStream(asked("break midway"), timeout=PATIENCE_S))
    result = chunks[-1].result
    assert result.status == result_pb2.STATUS_ERROR
    assert result.attempts[0].usage.input_tokens > 0
    assert provider.calls["break midway"] == 1


def test_the_cache_alone_has_no_answer_where_it_is_away(provider: ProviderServer, inference: Stub) -> None:
    only = request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_ONLY)
    result = inference.Infer(asked("fine only", cache=only), timeout=PATIENCE_S)
    assert (result.error.code, result.error.retryable) == (Code.CACHE_MISS, True)
    assert provider.calls["fine only"] == 0


def test_past_its_deadline_a_request_is_expired_and_the_providers_call_ended(
    provider: ProviderServer, inference: Stub
) -> None:
    request = asked("hold expiry")
    request.deadline.FromMilliseconds(int(time.time() * 1000) + 500)
    result = inference.Infer(request, timeout=PATIENCE_S)
    assert (result.status, result.error.code) == (result_pb2.STATUS_EXPIRED, Code.DEADLINE_PASSED)
    until(lambda: "hold expiry" in provider.left)


def test_calls_with_one_id_are_one_call_of_the_provider(
    beside: Beside, provider: ProviderServer, inference: Stub
) -> None:
    request = asked("hold twins", id="twins")
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(inference.Infer, request, timeout=PATIENCE_S)
        until(lambda: provider.calls["hold twins"] == 1)
        second = threads.submit(lambda: list(inference.InferStream(request, timeout=PATIENCE_S)))
        conflict = error_of(lambda: inference.Infer(asked("hold other", id="twins"), timeout=PATIENCE_S))
        assert conflict.code() == grpc.StatusCode.ALREADY_EXISTS
        provider.open("twins")
        chunks = second.result(PATIENCE_S)
        assert chunks[-1].result.output == first.result(PATIENCE_S).output
    assert "".join(chunk.text for chunk in chunks) == WHOLE
    assert len(handed_on(beside, "twins")) == provider.calls["hold twins"] == 1


def test_a_caller_who_goes_away_ends_the_providers_call_and_may_ask_again(
    beside: Beside, provider: ProviderServer, inference: Stub
) -> None:
    request = asked("hold gone", id="gone")
    leaving: Any = inference.InferStream(request, timeout=PATIENCE_S)
    until(lambda: provider.calls["hold gone"] == 1)
    leaving.cancel()
    until(lambda: "hold gone" in provider.left)
    assert handed_on(beside, "gone") == []
    provider.open("gone")
    assert inference.Infer(request, timeout=PATIENCE_S).output.text == WHOLE
    assert len(handed_on(beside, "gone")) == 1


def test_health_is_told_by_the_standard_service(beside: Beside) -> None:
    with grpc.insecure_channel(beside.frontier.grpc) as channel:
        assert health_of(channel) == health_pb2.HealthCheckResponse.SERVING


def test_told_to_stop_it_takes_no_more_and_finishes_what_runs(
    beside: Beside, kafka: str, provider: ProviderServer, tmp_path: Path
) -> None:
    with (
        frontier_process(kafka, provider, tmp_path, MILLPOND_REPLICA="1") as leaving,
        grpc.insecure_channel(leaving.grpc) as channel,
        ThreadPoolExecutor(1) as threads,
    ):
        until(lambda: is_ready(leaving))
        running = threads.submit(leaving.stub(channel).Infer, asked("hold drain", id="drain"), timeout=PATIENCE_S)
        until(lambda: provider.calls["hold drain"] == 1)
        leaving.process.terminate()
        refused = None
        while refused is None:
            refused = refusal(lambda: leaving.stub(channel).Infer(asked("fine late"), timeout=PATIENCE_S))
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        provider.open("drain")
        assert running.result(PATIENCE_S).output.text == WHOLE
        assert leaving.process.wait(PATIENCE_S) == 0
    assert len(handed_on(beside, "drain")) == 1


def test_without_kafka_an_answer_says_that_it_is_not_published_yet(provider: ProviderServer, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    with (
        frontier_process(nowhere, provider, tmp_path, MILLPOND_FRONTIER__PUBLISH_TIMEOUT_S="0.1") as alone,
        grpc.insecure_channel(alone.grpc) as channel,
    ):
        result, done = alone.stub(channel).Infer.with_call(asked("fine alone"), timeout=PATIENCE_S, wait_for_ready=True)
        assert result.output.text == WHOLE
        assert dict(done.trailing_metadata())["millpond-published"] == "false"


def test_a_taken_port_is_named(provider: ProviderServer, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        nowhere = f"127.0.0.1:{free_port()}"
        with frontier_process(nowhere, provider, tmp_path, MILLPOND_GRPC_PORT=port) as refused:
            assert refused.process.wait(PATIENCE_S) == 2
    assert f"127.0.0.1:{port} is taken" in refused.log.read_text()


def error_of(call: Callable[[], object]) -> grpc.Call:
    failure = refusal(call)
    assert failure is not None, "it was answered"
    return failure


def refusal(call: Callable[[], object]) -> grpc.Call | None:
    try:
        call()
    except grpc.RpcError as failure:
        return cast(grpc.Call, failure)
    return None


def health_of(channel: grpc.Channel) -> int:
    wanted = health_pb2.HealthCheckRequest(service="millpond.v1.Inference")
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Check(wanted, timeout=PATIENCE_S).status


# In the whole stack


def test_the_stand_in_answers_twenty_requests(pipeline: Pipeline) -> None:
    sent: list[str] = []
    with Results(pipeline.settings) as found, Requests(pipeline.settings, Tracing()) as requests:
        for number in range(20):
            prompt = [{"role": "user", "content": f"What is {number} and {number}?"}]
            body = {"model": "frontier", "messages": prompt, "params": {"max_tokens": 8}}
            sent.append(requests.send(json.dumps(body).encode()))
        requests.flush()
        answers = collect(found, sent).values()
    assert {answer.served_by.model for answer in answers} == {"stand-in-large"}
    assert all(answer.output.text and 1 <= answer.usage.output_tokens <= 8 for answer in answers)


def test_an_answer_of_the_sync_tier_is_published_once_learned_and_given_again(pipeline: Pipeline) -> None:
    prompt = "What is the difference between a list and a tuple in Python?"
    params = request_pb2.Params(max_tokens=8)
    tracing = telemetry.start_tracing(
        "frontier-test", otlp_endpoint=pipeline.settings.otlp_endpoint, traces_file=pipeline.settings.traces_file
    )
    span = tracing.send(topics.REQUESTS, None)
    with grpc.insecure_channel(pipeline.addresses.frontier_grpc) as channel, Results(pipeline.settings) as found:
        inference: Any = services_pb2_grpc.InferenceStub(channel)
        metadata = telemetry.inject_metadata((), span)
        span.end()
        chunks = list(inference.InferStream(asked(prompt, params=params), timeout=PATIENCE_S, metadata=metadata))
        first = chunks[-1].result
        assert "".join(chunk.text for chunk in chunks) == first.output.text != ""
        assert first.trace_id == telemetry.trace_id(span)
        published = collect(found, [first.trace_id])[first.trace_id]
        assert without_times(published) == without_times(first)
        again = first
        end = time.monotonic() + PATIENCE_S
        while again.served_by.route != result_pb2.ROUTE_CACHE:
            assert time.monotonic() < end, "it was never learned"
            chunks = list(inference.InferStream(asked(prompt, params=params), timeout=PATIENCE_S))
            again = chunks[-1].result
    assert again.output == first.output
    assert [chunk.text for chunk in chunks[:-1]] == [first.output.text]
    assert (again.cost_usd, again.served_by.cache.kind) == ("0.000000", "exact")
    assert [result.id for result in pipeline.results()].count(first.id) == 1
    tracing.close()
    if pipeline.addresses.jaeger_query:
        jaeger = Jaeger(pipeline.addresses.jaeger_query)
        assert check(jaeger, [first.trace_id], PATIENCE_S).faults == {}
        spans = jaeger.spans([first.trace_id])[first.trace_id]
        parents = {each.id: each.name for each in spans}
        edges = Counter((parents.get(each.parent or ""), each.name) for each in spans)
        infer = "millpond.v1.Inference/InferStream"
        for edge in (
            ("send ai.requests", infer),
            (infer, "millpond.v1.CacheService/Lookup"),
            (infer, "chat stand-in-large"),
            (infer, "send ai.routed"),
            ("send ai.routed", "receive ai.routed"),
        ):
            assert edges[edge] == 1, edge


def without_times(result: result_pb2.Result) -> Mapping[str, object]:
    return {each.name: value for each, value in result.ListFields() if each.name not in ("timings_ms", "accepted_at")}
