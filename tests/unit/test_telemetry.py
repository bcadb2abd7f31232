"""One trace from hop to hop, whatever the headers hold, with tracing on and off."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from millpond_core import telemetry
from millpond_core.telemetry import Headers, Tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CAME: Headers = (("tenant", b"acme"), ("traceparent", f"00-{TRACE}-{PARENT}-01".encode()), ("n", b"\xff\x00"))


class Recorded:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(span_limits=SpanLimits(max_links=telemetry.LARGEST_WINDOW))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return span


def hop(tracing: Tracing, source: str, target: str, headers: Headers) -> Headers:
    received = tracing.received(source, headers, partition=1, offset=7)
    process = tracing.process(source, received)
    send = tracing.send(target, process)
    passed_on = telemetry.inject(headers, send)
    send.end()
    process.end()
    return passed_on


def context_of(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == "traceparent"]


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def test_hops_are_one_trace_in_which_each_span_is_the_next_ones_parent() -> None:
    recorded = Recorded()
    hop(recorded.tracing, "b", "c", hop(recorded.tracing, "a", "b", CAME))
    chain = [
        recorded.named(f"{name}") for name in ("receive a", "process a", "send b", "receive b", "process b", "send c")
    ]
    assert {f"{span.context.trace_id:032x}" for span in chain if span.context} == {TRACE}
    assert [parent_of(span) for span in chain] == [int(PARENT, 16), *map(span_id, chain[:-1])]


def test_a_receive_span_says_where_the_record_lay() -> None:
    recorded = Recorded()
    hop(recorded.tracing, "a", "b", CAME)
    attributes = recorded.named("receive a").attributes
    assert attributes is not None
    assert (attributes[telemetry.PARTITION], attributes[telemetry.OFFSET]) == ("1", 7)


def test_with_tracing_off_the_context_is_handed_on_unchanged() -> None:
    assert context_of(hop(Tracing(), "a", "b", CAME)) == context_of(CAME)


@pytest.mark.parametrize("tracing", [Tracing(), Recorded().tracing])
def test_a_request_without_context_gets_a_trace_that_it_keeps(tracing: Tracing) -> None:
    received = tracing.received("a", (), partition=0, offset=0)
    ((_, value),) = telemetry.inject((), tracing.send("b", tracing.process("a", received)))
    assert telemetry.trace_id(received) in value.decode()
    assert telemetry.trace_id(received) != telemetry.trace_id(tracing.received("a", None, partition=0, offset=1))
    assert set(telemetry.trace_id(received)) != {"0"}


def test_all_other_headers_stay_as_they_were_and_one_context_is_among_them() -> None:
    twice = (*CAME, ("traceparent", b"00-junk"), ("tracestate", b"vendor=1"))
    passed_on = hop(Recorded().tracing, "a", "b", twice)
    assert [header for header in passed_on if header[0] != "traceparent"] == [("tenant", b"acme"), ("n", b"\xff\x00")]
    assert len(context_of(passed_on)) == 1


def test_of_several_contexts_the_last_counts() -> None:
    other = f"00-{'1' * 32}-{'2' * 16}-01".encode()
    received = Tracing().received("a", (("traceparent", other), *CAME), partition=0, offset=0)
    assert telemetry.trace_id(received) == TRACE


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["traceparent", "tracestate", "tenant"]),
            st.none()
            | st.binary(max_size=80)
            | st.text(max_size=80)
            | st.integers()
            | st.from_regex(rb"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?\Z")
            | st.just(b"00-" + b"a" * 4000),
        ),
        max_size=4,
    )
)
def test_no_header_is_an_error(headers: list[tuple[str, object]]) -> None:
    for tracing in (Tracing(), Tracing(TracerProvider())):
        received = tracing.received("a", headers, partition=0, offset=0)
        assert len(telemetry.trace_id(received)) == 32
        assert received.get_span_context().is_valid


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.integers(0, 1))
def test_a_context_written_is_read_the_same(trace: int, span: int, flags: int) -> None:
    header = f"00-{trace:032x}-{span:016x}-{flags:02x}".encode()
    received = Tracing().received("a", (("traceparent", header),), partition=0, offset=0)
    assert context_of(telemetry.inject((), received)) == [header]
    assert dict(telemetry.inject_metadata((), received))["traceparent"] == header.decode()


def test_a_batch_is_linked_to_every_member_of_the_largest_window() -> None:
    recorded = Recorded()
    members = [
        recorded.tracing.process("a", recorded.tracing.received("a", CAME, partition=0, offset=offset))
        for offset in range(telemetry.LARGEST_WINDOW)
    ]
    batch = recorded.tracing.batch(members)
    recorded.tracing.chat("smollm2-135m", members[0], batch=batch).end()
    batch.end()
    wheel, chat = recorded.named("batch"), recorded.named("chat smollm2-135m")
    assert [link.context for link in wheel.links] == [member.get_span_context() for member in members]
    assert wheel.parent is None
    assert parent_of(chat) == members[0].get_span_context().span_id
    assert [link.context for link in chat.links] == [batch.get_span_context()]


def test_a_grpc_call_is_in_its_callers_trace() -> None:
    recorded = Recorded()
    parent = recorded.tracing.serve("outer", (("traceparent", CAME[1][1].decode()),))
    call = recorded.tracing.call("inner", parent)
    served = recorded.tracing.serve("inner served", telemetry.inject_metadata((("key", "value"),), call))
    for span in (served, call, parent):
        span.end()
    assert parent_of(recorded.named("inner served")) == span_id(recorded.named("inner"))
    assert telemetry.trace_id(served) == TRACE


def test_spans_in_a_file_are_one_json_object_a_line(tmp_path: Path) -> None:
    file = tmp_path / "new" / "traces.jsonl"
    for service in ("millpond-router", "millpond-cache"):
        tracing = telemetry.start_tracing(service, otlp_endpoint=None, traces_file=file)
        hop(tracing, "a", "b", CAME)
        tracing.close()
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    assert [span["name"] for span in spans] == ["receive a", "send b", "process a"] * 2
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{TRACE}"}
    assert spans[0]["resource"]["attributes"]["service.name"] == "millpond-router"


def test_a_back_end_that_is_down_raises_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tracing = telemetry.start_tracing("millpond-router", otlp_endpoint="http://127.0.0.1:1", traces_file=None)
    for _ in range(2 * telemetry.QUEUE_SPANS // 3):
        hop(tracing, "a", "b", CAME)
    tracing.close()
    assert len([record for record in caplog.records if record.name.startswith("opentelemetry.exporter")]) <= 1


def test_a_filter_lets_one_line_through_and_then_none() -> None:
    record = logging.makeLogRecord({})
    passes: Callable[[logging.LogRecord], bool] = telemetry.OnceAWhile().filter
    assert [passes(record) for _ in range(3)] == [True, False, False]
