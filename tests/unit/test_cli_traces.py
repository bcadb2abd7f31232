"""When a trace is whole, from Jaeger and from a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from millpond_cli.traces import FIRST, LAST, Span, TraceFile, check, fault_in, jaeger_spans
from millpond_core.telemetry import start_tracing

WHOLE = [
    Span("1", None, FIRST, "cli"),
    Span("2", "1", "receive ai.requests", "router"),
    Span("3", "2", "process ai.requests", "router"),
    Span("4", "3", LAST, "router"),
]


def test_one_tree_from_the_request_to_the_result_is_whole() -> None:
    assert fault_in(WHOLE) is None


@pytest.mark.parametrize(
    ("spans", "fault"),
    [
        ([], "no span"),
        (WHOLE[1:], "begins with nothing"),
        (WHOLE[:3], "0 spans send ai.results"),
        ([WHOLE[0], *WHOLE[2:]], "parent of process ai.requests is missing"),
        ([*WHOLE, Span("5", "3", LAST, "router")], "2 spans send ai.results"),
        ([*WHOLE, Span("5", None, "process ai.routed", "cache")], "begins with send ai.requests, process ai.routed"),
    ],
)
def test_what_is_not_whole_is_said(spans: list[Span], fault: str) -> None:
    assert fault in (fault_in(spans) or "")


def test_looking_goes_on_until_the_last_span_is_there() -> None:
    class Filling:
        looks = 0

        def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
            self.looks += 1
            return dict.fromkeys(trace_ids, WHOLE[: self.looks + 2])

    checked = check(Filling(), ["a", "b"], within_s=60)
    assert (checked.checked, checked.complete) == (2, 2)


def test_what_never_becomes_whole_is_reported_with_its_fault() -> None:
    class Never:
        def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
            return dict.fromkeys(trace_ids, WHOLE[:3])

    checked = check(Never(), ["a"], within_s=0)
    assert checked.complete == 0
    assert "send ai.results" in checked.faults["a"]


def test_the_spans_that_telemetry_writes_to_a_file_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    tracing = start_tracing("millpond-test", otlp_endpoint=None, traces_file=path)
    sent = tracing.send("ai.requests", None)
    result = tracing.send("ai.results", sent)
    for span in (result, sent):
        span.end()
    tracing.close()
    with path.open("ab") as file:
        file.write(b'{"name": "half a li')
    trace = f"{sent.get_span_context().trace_id:032x}"
    spans = TraceFile(path).spans([trace])[trace]
    assert fault_in(spans) is None
    assert {span.service for span in spans} == {"millpond-test"}


def test_a_link_in_jaegers_answer_is_no_parent() -> None:
    answer = {
        "data": [
            {
                "processes": {"p1": {"serviceName": "millpond-batcher"}},
                "spans": [
                    {
                        "traceID": "a",
                        "spanID": "2",
                        "operationName": "chat smollm2-135m",
                        "processID": "p1",
                        "references": [
                            {"refType": "FOLLOWS_FROM", "traceID": "b", "spanID": "9"},
                            {"refType": "CHILD_OF", "traceID": "a", "spanID": "1"},
                        ],
                    },
                    {"traceID": "a", "spanID": "1", "operationName": FIRST, "processID": "p1", "references": []},
                ],
            }
        ]
    }
    assert jaeger_spans(json.loads(json.dumps(answer))) == [
        Span("2", "1", "chat smollm2-135m", "millpond-batcher"),
        Span("1", None, FIRST, "millpond-batcher"),
    ]
