"""Spans that were written to a file are the same spans when they are sent on."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

from millpond_cli.stack.trace_file import NotTaken, TraceFile, otlp, whole_lines


def some_spans() -> tuple[ReadableSpan, ...]:
    """A parent, its child with all that a span can have, and one linked to both."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "router", "service.instance.id": ""}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("millpond")
    # Whole microseconds: the file has no more.
    parent = tracer.start_span("send", kind=SpanKind.PRODUCER, start_time=1_700_000_000_123_456_000)
    child = tracer.start_span(
        "process",
        set_span_in_context(parent),
        SpanKind.CONSUMER,
        {"text": "a", "yes": True, "number": 2**40, "part": 0.5, "list": ["a", "b"], "numbers": [1, 2]},
        start_time=1_700_000_000_123_457_000,
    )
    child.add_event("retry", {"n": 1}, timestamp=1_700_000_000_123_458_000)
    child.set_status(Status(StatusCode.ERROR, "no answer"))
    child.end(1_700_000_001_000_000_000)
    parent.end(1_700_000_001_000_001_000)
    links = [Link(parent.get_span_context()), Link(child.get_span_context(), {"row": 1})]
    tracer.start_span("batch", None, SpanKind.INTERNAL, None, links, 1_700_000_000_000_000_000).end(
        1_700_000_001_000_001_000
    )
    return kept.get_finished_spans()


def lines_of(spans: tuple[ReadableSpan, ...]) -> list[bytes]:
    return [(span.to_json(indent=None) + "\n").encode() for span in spans]


def test_they_are_what_the_exporter_would_have_sent() -> None:
    spans = some_spans()
    sent = Parse(json.dumps(_as_protobufs_json(otlp(lines_of(spans)))), ExportTraceServiceRequest())
    expected = encode_spans(spans)
    for request in (sent, expected):
        for group in request.resource_spans:
            for scope in group.scope_spans:
                for span in scope.spans:
                    # The file has no flags; a backend does not look at them.
                    span.flags = 0
                    for link in span.links:
                        link.flags = 0
    assert sent == expected


def _as_protobufs_json(given_: Any) -> Any:
    """OTLP writes ids in hexadecimal, protobuf's own JSON in base 64."""
    from base64 import b64encode

    if isinstance(given_, list):
        return [_as_protobufs_json(each) for each in given_]
    if isinstance(given_, dict):
        return {
            key: b64encode(bytes.fromhex(value)).decode()
            if key in {"traceId", "spanId", "parentSpanId"}
            else _as_protobufs_json(value)
            for key, value in given_.items()
        }
    return given_


def test_a_line_that_is_no_span_is_left_out() -> None:
    (line, *_) = lines_of(some_spans())
    request = otlp([b"{", b"null\n", b"{}\n", b"\xff\n", line])
    assert [span["name"] for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"]] == ["process"]


@given(st.binary())
def test_only_whole_lines_are_taken_and_nothing_else_is_lost(chunk: bytes) -> None:
    lines = whole_lines(chunk)
    taken = b"".join(lines)
    assert chunk.startswith(taken)
    assert b"\n" not in chunk[len(taken) :]


class Receiver(HTTPServer):
    """Takes what is posted, or refuses it."""

    status = 200

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Taker)

    @property
    def names(self) -> list[str]:
        return [
            span["name"]
            for body in self.bodies
            for group in body["resourceSpans"]
            for scope in group["scopeSpans"]
            for span in scope["spans"]
        ]


class Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.status == 200:
            self.server.bodies.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiver() -> Generator[tuple[Receiver, str]]:
    server = Receiver()
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_line_is_sent_once_when_it_is_whole(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.jsonl")
    lines = lines_of(some_spans())
    assert not file.has_unsent
    with receiver() as (server, url):
        file.path.write_bytes(lines[0] + lines[1][:20])
        assert file.send(url) == 1
        assert file.has_unsent
        file.path.write_bytes(b"".join(lines))
        assert TraceFile(file.path).send(url) == 2
        assert not file.has_unsent
        assert server.names == ["process", "send", "batch"]


def test_a_start_forgets_what_was_sent_and_keeps_what_was_not(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.jsonl")
    file.begin()
    file.path.write_bytes(b"".join(lines_of(some_spans())))
    file.begin()
    with receiver() as (server, url):
        assert file.send(url) == 3
        file.begin()
        assert list(tmp_path.iterdir()) == []
        file.path.write_bytes(lines_of(some_spans())[1])
        assert file.send(url) == 1
        assert server.names[3:] == ["send"]


def test_a_file_that_nothing_takes_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millpond_cli.stack.trace_file.KEPT_BYTES", 10)
    file = TraceFile(tmp_path / "traces.jsonl")
    file.path.write_bytes(b"x" * 11)
    file.begin()
    assert [each.name for each in tmp_path.iterdir()] == ["traces.jsonl.1"]


def test_what_was_not_taken_is_sent_again(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "traces.jsonl")
    file.path.write_bytes(lines_of(some_spans())[0])
    with receiver() as (server, url):
        server.status = 503
        with pytest.raises(NotTaken):
            file.send(url)
        assert file.has_unsent
        server.status = 200
        assert file.send(url) == 1
    file.path.write_bytes(b"".join(lines_of(some_spans())))
    with pytest.raises(NotTaken):
        file.send(url)
