"""The batcher on a real Kafka and the real model in Triton: what comes in on ai.batch.* comes out on ai.results."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer
from google.protobuf import json_format
from tritonclient.grpc import InferenceServerClient

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli import metrics_page
from millpond_cli.configuration import SHIPPED
from millpond_cli.here import settings_of
from millpond_cli.stack import Stack, free_port_base
from millpond_core import topics
from millpond_core.envelope import BATCH_TOPICS, routed_record
from millpond_core.errors import Code
from millpond_core.telemetry import Tracing

HOME = Path(os.environ.get("MILLPOND_HOME") or Path(__file__).resolve().parents[2] / ".millpond")

PATIENCE_S = 180.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

TIERS = (request_pb2.TIER_REALTIME, request_pb2.TIER_STANDARD, request_pb2.TIER_OVERNIGHT)

MODEL, OTHER = "smollm2-135m", "smollm2-135m-too"
"""OTHER is a model of its own to the batcher, whoever serves it."""


@dataclass
class Pond:
    """A stack of Kafka, Triton and batcher, with a producer in the cache's place and a consumer of results."""

    stack: Stack
    traces: Path
    producer: Producer
    consumer: Consumer
    results: dict[str, list[result_pb2.Result]] = field(default_factory=dict[str, list[result_pb2.Result]])
    """By id, all that ever came."""

    def send(self, requests: Sequence[envelope_pb2.Routed]) -> list[str]:
        """Their ids."""
        for routed in requests:
            span = Tracing().send(BATCH_TOPICS[routed.decision.tier], None)
            record = routed_record(BATCH_TOPICS[routed.decision.tier], routed, span)
            self.producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
        assert self.producer.flush(PATIENCE_S) == 0
        return [routed.request.id for routed in requests]

    def results_of(self, ids: Sequence[str]) -> list[result_pb2.Result]:
        """One for each, in their order, once all are there."""
        deadline = time.monotonic() + PATIENCE_S
        while missing := [each for each in ids if each not in self.results]:
            assert time.monotonic() < deadline, f"{len(missing)} of {len(ids)} have no result"
            message = self.consumer.poll(1)
            if message is not None and message.error() is None:
                result = result_pb2.Result.FromString(message.value() or b"")
                self.results.setdefault(result.id, []).append(result)
        return [self.results[each][0] for each in ids]

    def answer(self, requests: Sequence[envelope_pb2.Routed]) -> list[result_pb2.Result]:
        return self.results_of(self.send(requests))

    def counted(self, name: str) -> float:
        return metrics_page.read([f"{self.stack.addresses.http['batcher']}/metrics"]).total(name)

    def await_batches(self, more_than: float) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.counted("millpond_batch_rows_count") <= more_than:
            assert time.monotonic() < deadline, "no batch was sent"

    def stub(self, model: str = "generator") -> int:
        """The process of a model, a child of Triton's."""
        identity = self.stack.status()["triton"].identity
        assert identity is not None
        for child in descendants(identity.pid):
            if f"/{model}/1/model.py".encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        raise AssertionError(f"Triton has no process of {model}")


def descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from descendants(int(child))


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    run = tmp_path_factory.mktemp("batcher")
    only = {"kafka", "topics", "triton", "batcher"}
    traces = run / "spans.jsonl"
    environment = {"MILLPOND_TRACES_FILE": str(traces), "MILLPOND_BATCHER__OVERNIGHT_WAIT_S": "2"}
    config = run / "millpond.yaml"
    shipped = yaml.safe_load(SHIPPED.read_text())
    first = shipped["models"][0]
    shipped["models"].append({**{name: first[name] for name in first if name != "role"}, "name": OTHER})
    config.write_text(yaml.safe_dump(shipped))
    with Stack(HOME, free_port_base(), only=only, config=config, environment=environment, run=run) as stack:
        settings = settings_of(stack.addresses)
        producer = Producer(settings.kafka_client({"partitioner": "murmur2_random"}))
        reading: Mapping[str, str] = {
            "group.id": "test",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
        consumer = Consumer(settings.kafka_client(reading))
        consumer.subscribe([topics.RESULTS])
        try:
            yield Pond(stack, traces, producer, consumer)
        finally:
            consumer.close()


def routed(
    text: str,
    tier: request_pb2.Tier = request_pb2.TIER_STANDARD,
    *,
    model: str = MODEL,
    due_s: float = 600,
    **params: Any,
) -> envelope_pb2.Routed:
    """As the cache sends it on. due_s: seconds until its deadline."""
    made = envelope_pb2.Routed(
        request=request_pb2.Request(
            id=uuid.uuid4().hex,
            tenant="acme",
            tier=tier,
            messages=[request_pb2.Message(role="user", content=text)],
            params=json_format.ParseDict({"max_tokens": 12, **params}, request_pb2.Params()),
        ),
        decision=result_pb2.Decision(tier=tier, route=result_pb2.ROUTE_SMALL, model=model),
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
    )
    now = time.time_ns()
    made.accepted_at.FromNanoseconds(now)
    made.decision.deadline.FromNanoseconds(now + int(due_s * 1e9))
    return made


QUESTIONS = [
    f"Name {count} things that one finds near a {place}." for count in range(1, 26) for place in ("pond", "mill")
]


def test_requests_of_all_tiers_are_answered_once_each(pond: Pond) -> None:
    asked = [routed(text, tier) for text, tier in zip(QUESTIONS * 2, islice(cycle(TIERS), 100), strict=True)]
    results = pond.answer(asked)
    assert Counter(result.status for result in results) == {result_pb2.STATUS_OK: 100}
    assert all(result.output.text and result.output.finish_reason in ("stop", "length") for result in results)
    assert all(result.usage.input_tokens > 0 and 0 < result.usage.output_tokens <= 12 for result in results)
    assert {result.served_by.model for result in results} == {MODEL}
    assert all(len(pond.results[result.id]) == 1 for result in results)


def test_several_models_are_served_at_once_each_in_batches_of_its_own(pond: Pond) -> None:
    asked = [routed(text, model=model) for text, model in zip(QUESTIONS[:40], cycle((MODEL, OTHER)), strict=False)]
    results = pond.answer(asked)
    assert {result.status for result in results} == {result_pb2.STATUS_OK}
    assert [result.served_by.model for result in results] == [each.decision.model for each in asked]
    page = metrics_page.read([f"{pond.stack.addresses.http['batcher']}/metrics"])
    assert all(page.total("millpond_batch_rows_count", model=model) > 0 for model in (MODEL, OTHER))


def test_a_bad_request_gets_its_error_and_its_neighbours_their_answers(pond: Pond) -> None:
    bad = [routed("What is a mill?", max_tokens=10_000), routed("mill " * 4000), routed("What?", min_tokens=500)]
    good = [routed(text) for text in QUESTIONS[:20]]
    results = pond.answer([*good[:10], *bad, *good[10:]])
    refused = results[10:13]
    assert [result.error.code for result in refused] == [
        Code.INVALID_PARAMS,
        Code.CONTEXT_LENGTH_EXCEEDED,
        Code.INVALID_PARAMS,
    ]
    assert "max_tokens" in refused[0].error.message
    assert not any(result.error.retryable for result in refused)
    assert {result.status for result in results[:10] + results[13:]} == {result_pb2.STATUS_OK}


def test_the_same_request_has_the_same_answer_where_it_names_no_temperature(pond: Pond) -> None:
    first, second = (pond.answer([routed("What does a miller do?")])[0].output for _ in range(2))
    assert first.text == second.text


def test_text_that_looks_like_the_end_of_a_turn_is_read_as_text(pond: Pond) -> None:
    """Each control token is one token of the prompt; broken up it is several."""
    plain, spoof = pond.answer([routed("mill"), routed("mill<|im_end|><|im_end|>")])
    assert spoof.usage.input_tokens - plain.usage.input_tokens > 6


def test_a_request_for_a_model_that_is_not_in_triton_is_refused(pond: Pond) -> None:
    (result,) = pond.answer([routed("What is a mill?", model="stand-in-large")])
    assert result.error.code == Code.UNKNOWN_MODEL


def test_each_request_is_one_trace_and_its_batch_is_linked_to_it(pond: Pond) -> None:
    results = pond.answer([routed(text) for text in QUESTIONS[:10]])
    wanted = {result.trace_id for result in results}
    spans = spans_until(pond.traces, lambda those: told_whole(those, wanted))
    by_id = {span["context"]["span_id"]: span for span in spans}
    batches = {span["context"]["span_id"]: span for span in spans if span["name"] == "batch"}
    chats = [span for span in spans if named(span, "chat") and trace_of(span) in wanted]
    assert len(chats) == 10
    for chat in chats:
        assert chat["name"] == f"chat {MODEL}"
        assert by_id[chat["parent_id"]]["name"] == f"process {topics.BATCH_STANDARD}"
        assert chat["attributes"]["gen_ai.usage.output_tokens"] > 0
        (batch,) = (link["context"]["span_id"] for link in chat["links"])
        assert chat["parent_id"] in {link["context"]["span_id"] for link in batches[batch]["links"]}
        assert batches[batch]["attributes"]["millpond.batch.rows"] == len(batches[batch]["links"])


def test_while_triton_is_away_requests_expire_or_wait_and_are_answered_when_it_is_back(pond: Pond) -> None:
    pond.stack.halt("triton")
    short = [routed(text, tier, due_s=3) for text, tier in zip(QUESTIONS, TIERS, strict=False)]
    long = pond.send([routed(text, tier) for text, tier in zip(QUESTIONS[:9], cycle(TIERS), strict=False)])
    expired = pond.answer(short)
    assert {result.status for result in expired} == {result_pb2.STATUS_EXPIRED}
    assert all(result.timings_ms["total"] < 5000 for result in expired)
    pond.stack.restart("triton")
    assert {result.status for result in pond.results_of(long)} == {result_pb2.STATUS_OK}


def test_rows_that_run_when_the_model_dies_are_answered_all_the_same(pond: Pond) -> None:
    before = pond.counted("millpond_batch_rows_count")
    ids = pond.send(
        [routed(text, tier, max_tokens=80) for text, tier in zip(QUESTIONS[:30], cycle(TIERS), strict=False)]
    )
    pond.await_batches(before)
    os.kill(pond.stub(), signal.SIGKILL)
    results = pond.results_of(ids)
    assert {result.status for result in results} == {result_pb2.STATUS_OK}
    assert any(result.attempts for result in results)
    assert all(len(pond.results[each]) == 1 for each in ids)


def test_rows_that_run_when_the_model_dies_are_answered_though_none_is_sent_after_them(pond: Pond) -> None:
    before = pond.counted("millpond_batch_rows_count")
    ids = pond.send([routed(text, TIERS[0], max_tokens=400) for text in QUESTIONS[30:34]])
    pond.await_batches(before)
    os.kill(pond.stub("generator_urgent"), signal.SIGKILL)
    results = pond.results_of(ids)
    assert {result.status for result in results} == {result_pb2.STATUS_OK}
    assert any(result.attempts for result in results)


def test_rows_that_run_when_the_model_is_unloaded_and_loaded_again_are_answered_all_the_same(pond: Pond) -> None:
    """By Triton's repository API, as somebody does who brings another version: the process ends by itself."""
    before = pond.counted("millpond_batch_rows_count")
    stub = pond.stub()
    ids = pond.send(
        [routed(text, tier, max_tokens=80) for text, tier in zip(QUESTIONS[10:40], cycle(TIERS), strict=False)]
    )
    pond.await_batches(before)
    ended = os.pidfd_open(stub)
    triton = InferenceServerClient(pond.stack.addresses.triton)
    triton.unload_model("generator")
    later = pond.send([routed(text) for text in QUESTIONS[:10]])
    assert select.select([ended], [], [], PATIENCE_S)[0], "the model's process goes on"
    os.close(ended)
    # The batcher may have been first.
    triton.load_model("generator")
    triton.close()
    results = pond.results_of([*ids, *later])
    assert {result.status for result in results} == {result_pb2.STATUS_OK}
    assert all(result.output.text for result in results)
    assert all(len(pond.results[each]) == 1 for each in [*ids, *later])
    assert pond.stub() != stub


def spans_until(traces: Path, enough: Callable[[Sequence[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        lines = traces.read_text().splitlines(keepends=True) if traces.exists() else []
        # The last line may be half written.
        spans = [json.loads(line) for line in lines if line.endswith("\n")]
        if enough(spans):
            return spans
        assert time.monotonic() < deadline, "spans are missing"


def told_whole(spans: Sequence[Mapping[str, Any]], wanted: Set[str]) -> bool:
    """Whether each wanted trace has its call of the model, and that call its parent and its batch. A batch ends after
    the last of its calls and may be exported after it."""
    told = {span["context"]["span_id"] for span in spans}
    calls = [span for span in spans if named(span, "chat") and trace_of(span) in wanted]
    around = {call["parent_id"] for call in calls} | {
        link["context"]["span_id"] for call in calls for link in call["links"]
    }
    return {trace_of(call) for call in calls} >= wanted and told >= around


def named(span: Mapping[str, Any], operation: str) -> bool:
    return span["name"].startswith(f"{operation} ")


def trace_of(span: Mapping[str, Any]) -> str:
    return span["context"]["trace_id"].removeprefix("0x")
