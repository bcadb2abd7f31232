"""The demo's path on a stack of its own, with every real component, and the laws of ARCHITECTURE.md held against it.

First the demo's own work runs, smaller; then come records that are wrong in every way that the contract names, copies
and conflicts. What is asserted is what any consumer of ai.results and ai.deadletter sees.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from millpond.v1 import audit_pb2, request_pb2, result_pb2
from millpond_cli.client import Requests, Results
from millpond_cli.demo.docstrings import standard_library, texts
from millpond_cli.demo.job import Outcome, run_job
from millpond_cli.demo.workload import Demand, workload
from millpond_cli.kafka_lag import lags
from millpond_cli.traces import check, store_of
from millpond_core import topics
from millpond_core.telemetry import start_tracing
from pipeline import PATIENCE_S, Pipeline

REQUESTS = 80


@pytest.fixture(scope="module")
def demands() -> Sequence[Demand]:
    return workload(texts(standard_library()), REQUESTS, "e2e")


@pytest.fixture(scope="module")
def outcome(pipeline: Pipeline, demands: Sequence[Demand]) -> Outcome:
    """What came of the demo's work."""
    tracing = start_tracing(
        "millpond-e2e",
        otlp_endpoint=pipeline.settings.otlp_endpoint,
        traces_file=pipeline.settings.traces_file,
    )
    try:
        services = pipeline.addresses.http.values()
        return run_job(pipeline.settings, tracing, services, demands, show=lambda _: None)
    finally:
        tracing.close()


# The laws, over the demo's work


def test_every_request_has_exactly_one_result(pipeline: Pipeline, demands: Sequence[Demand], outcome: Outcome) -> None:
    assert [demand.name for demand in outcome.missing] == []
    seen = Counter(f"{result.tenant}/{result.id}" for result in pipeline.results())
    assert seen == Counter(demand.name for demand in demands)


def test_every_request_is_answered_by_cache_small_and_large_model(outcome: Outcome) -> None:
    faults = [(result.id, result.error.code, result.error.message) for result in outcome.results if result.error.code]
    assert faults == []
    assert {result.served_by.route for result in outcome.results} == {
        result_pb2.ROUTE_CACHE,
        result_pb2.ROUTE_SMALL,
        result_pb2.ROUTE_FRONTIER,
    }
    assert all(result.output.text for result in outcome.results)


def test_every_request_is_one_whole_trace(pipeline: Pipeline, outcome: Outcome) -> None:
    store = store_of(pipeline.addresses)
    assert store is not None
    ids = [result.trace_id for result in outcome.results]
    assert len(set(ids)) == REQUESTS
    assert check(store, ids, PATIENCE_S).faults == {}


def test_no_answer_crosses_a_tenant_and_an_exact_one_is_its_sources(outcome: Outcome) -> None:
    by_id = {result.id: result for result in outcome.results}
    cached = [result for result in outcome.results if result.served_by.route == result_pb2.ROUTE_CACHE]
    assert cached
    for result in cached:
        source = by_id[result.served_by.cache.source_id]
        assert source.tenant == result.tenant
        assert source.output.text == result.output.text
        assert source.served_by.route != result_pb2.ROUTE_CACHE


def test_every_decision_has_its_reasons(outcome: Outcome) -> None:
    for result in outcome.results:
        assert result.decision.reasons, result.id
        assert all(reason.code for reason in result.decision.reasons)
        assert result.decision.tier != request_pb2.TIER_UNSPECIFIED


def test_money_adds_up(pipeline: Pipeline, outcome: Outcome) -> None:
    """What results and samples say was used is what Triton's engine and the provider counted themselves."""
    used: Counter[tuple[str, str]] = Counter()
    samples = [audit_pb2.Audit.FromString(each.value() or b"").result for each in pipeline.everything_on(topics.AUDIT)]
    for result in (*pipeline.results(), *samples):
        attempts = [(attempt.model, attempt.usage) for attempt in result.attempts]
        tried_in = sum(usage.input_tokens for _, usage in attempts)
        tried_out = sum(usage.output_tokens for _, usage in attempts)
        if result.served_by.route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER):
            answer = result_pb2.Usage(
                input_tokens=result.usage.input_tokens - tried_in, output_tokens=result.usage.output_tokens - tried_out
            )
            attempts.append((result.served_by.model, answer))
        for model, usage in attempts:
            used[model, "input"] += usage.input_tokens
            used[model, "output"] += usage.output_tokens
    counted = pipeline.counted()
    small, large = (pipeline.settings.model_of_role(role).name for role in ("small", "frontier"))
    assert used == {
        (small, "input"): counted.total("millpond_engine_tokens_total", direction="input"),
        (small, "output"): counted.total("millpond_engine_tokens_total", direction="output"),
        # The stand-in tells apart what it read and what it still had from the request before.
        (large, "input"): counted.total("llamacpp:prompt_tokens_total")
        + counted.total("llamacpp:prompt_tokens_cached_total"),
        (large, "output"): counted.total("llamacpp:tokens_predicted_total"),
    }
    assert outcome.counted.total("millpond_wasted_tokens_total") == 0


def test_nothing_waits_once_everything_is_answered(pipeline: Pipeline, outcome: Outcome) -> None:
    assert not outcome.missing
    eventually(lambda: {lag.records for lag in lags(pipeline.settings)} == {0})
    assert {lag.topic for lag in lags(pipeline.settings)} >= {topics.REQUESTS, topics.ROUTED, topics.FRONTIER}


# Records that are wrong


def body(id: str, **fields: object) -> bytes:
    return json.dumps({"id": id, "messages": [{"role": "user", "content": "Say yes."}], **fields}).encode()


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


WRONG: Mapping[str, tuple[bytes, str, result_pb2.Status]] = {
    "shape": (body("shape", messages="hi"), "invalid_field", result_pb2.STATUS_ERROR),
    "unknown-field": (body("unknown-field", colour="blue"), "unknown_field", result_pb2.STATUS_ERROR),
    "no-messages": (body("no-messages", messages=[]), "empty_messages", result_pb2.STATUS_ERROR),
    "blank": (body("blank", messages=prompt("  ")), "empty_messages", result_pb2.STATUS_ERROR),
    "too-long": (
        body("too-long", messages=prompt("word " * 40_000)),
        "context_length_exceeded",
        result_pb2.STATUS_ERROR,
    ),
    "two-megabytes": (
        body("two-megabytes", messages=prompt("x" * (2 << 20))),
        "request_too_large",
        result_pb2.STATUS_ERROR,
    ),
    "unknown-tier": (body("unknown-tier", tier="soon"), "invalid_field", result_pb2.STATUS_ERROR),
    "unknown-model": (body("unknown-model", model="gpt-0"), "unknown_model", result_pb2.STATUS_ERROR),
    "wrong-params": (body("wrong-params", params={"top_p": 7}), "invalid_params", result_pb2.STATUS_ERROR),
    "past": (body("past", deadline="2001-01-01T00:00:00Z"), "deadline_passed", result_pb2.STATUS_EXPIRED),
    "nul": (body("nul", messages=prompt("a\0b")), "invalid_text", result_pb2.STATUS_ERROR),
    "cache-only": (
        body("cache-only", cache={"mode": "only"}, messages=prompt("Who was never asked?")),
        "cache_miss",
        result_pb2.STATUS_ERROR,
    ),
}
"""id → record, error code, status."""

UNREADABLE = {
    b'\xff\xfe{"id": "not-utf-8"}': "malformed",
    b"not JSON": "malformed",
    b"[1, 2, 3]": "malformed",
    b"": "malformed",
}
"""Record → reason of its dead letter: no id can be read."""


@dataclass
class Sent:
    """What became of the wrong records, once all of it is there."""

    results: Mapping[str, result_pb2.Result] = field(default_factory=dict[str, result_pb2.Result])
    """By trace id."""
    traces: dict[str, str] = field(default_factory=dict[str, str])
    """By the name that the test gave the record."""

    def result(self, name: str) -> result_pb2.Result:
        return self.results[self.traces[name]]


LONG_ID = body("x" * 10_000)


@pytest.fixture(scope="module")
def wrong(pipeline: Pipeline, outcome: Outcome) -> Sent:
    """All wrong records, a copy, a conflict, and good requests between and behind them."""
    del outcome
    sent = Sent()
    tracing = start_tracing("millpond-e2e", otlp_endpoint=pipeline.settings.otlp_endpoint, traces_file=None)
    with Results(pipeline.settings) as results, Requests(pipeline.settings, tracing) as requests:

        def send(name: str, record: bytes, key: bytes | None = None, **headers: bytes) -> None:
            named = tuple((header.replace("_", "-"), value) for header, value in headers.items())
            sent.traces[name] = requests.send(record, key, named)

        for number, record in enumerate(UNREADABLE):
            send(f"unreadable-{number}", record, original=b"kept")
        for name, (record, _, _) in WRONG.items():
            send(name, record)
        send("long-id", LONG_ID)
        send("wrong-headers", body("wrong-headers"), content_type=b"application/json", tenant=b"\xff\x00", tokens=b"x")
        send("protobuf", b"\xff\xff\xff", content_type=b"application/protobuf")
        for copy in ("first", "copy"):
            send(copy, body("twice"), b"default/twice")
        send("conflict", body("twice", messages=prompt("Say no.")), b"default/twice")
        send("last", body("last"))
        requests.flush()
        expected = {sent.traces[name] for name in (*WRONG, "long-id", "wrong-headers", "first", "last")}
        sent.results = {}
        until = time.monotonic() + PATIENCE_S
        while expected - sent.results.keys() and time.monotonic() < until:
            sent.results |= {result.trace_id: result for result in results.take(1.0)}
    missing = [name for name, trace in sent.traces.items() if trace in expected - sent.results.keys()]
    assert missing == []
    eventually(lambda: pipeline.counted().total("millpond_copies_dropped_total") >= 1)
    eventually(lambda: len(pipeline.everything_on(topics.DEADLETTER)) >= len(UNREADABLE) + 2)
    tracing.close()
    return sent


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, "this never came to hold"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_gets_a_result_that_says_what_is_wrong(wrong: Sent, name: str) -> None:
    _, code, status = WRONG[name]
    result = wrong.result(name)
    assert (result.id, result.error.code, result.status) == (name, code, status)
    assert result.error.message
    assert not result.HasField("output")


def test_an_id_that_may_not_be_gives_way_to_the_records_own(wrong: Sent) -> None:
    result = wrong.result("long-id")
    assert result.error.code == "invalid_field"
    assert 1 <= len(result.id) <= 256


def test_headers_of_the_wrong_type_do_no_harm(wrong: Sent) -> None:
    assert wrong.result("wrong-headers").status == result_pb2.STATUS_OK
    assert wrong.result("wrong-headers").tenant == "default"


def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes_its_headers_and_the_reason(
    pipeline: Pipeline, wrong: Sent
) -> None:
    del wrong
    letters = {
        letter.value() or b"": dict(letter.headers() or ()) for letter in pipeline.everything_on(topics.DEADLETTER)
    }
    for record, reason in UNREADABLE.items():
        headers = letters[record]
        assert headers["dead-letter-reason"] == reason.encode()
        assert headers["dead-letter-topic"] == topics.REQUESTS.encode()
        assert headers["dead-letter-offset"]
        assert headers["dead-letter-message"]
        assert headers["original"] == b"kept"
    assert letters[b"\xff\xff\xff"]["dead-letter-reason"] == b"malformed"


def test_a_copy_is_dropped_and_a_conflict_is_a_dead_letter_and_neither_gives_a_result(
    pipeline: Pipeline, wrong: Sent
) -> None:
    assert wrong.result("first").status == result_pb2.STATUS_OK
    assert [result.id for result in pipeline.results()].count("twice") == 1
    counted = pipeline.counted()
    assert counted.total("millpond_copies_dropped_total") == 1
    assert counted.total("millpond_conflicts_total") == 1
    reasons = Counter(
        dict(letter.headers() or ()).get("dead-letter-reason", b"")
        for letter in pipeline.everything_on(topics.DEADLETTER)
    )
    assert reasons == {b"malformed": len(UNREADABLE) + 1, b"id_conflict": 1}


def test_the_service_goes_on_behind_them(wrong: Sent) -> None:
    assert wrong.result("last").status == result_pb2.STATUS_OK
