"""Whether a request's spans are one whole trace, and where a person sees them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from millpond_cli.stack import Addresses
from millpond_core import topics
from millpond_core.telemetry import SEND

FIRST = f"{SEND} {topics.REQUESTS}"
LAST = f"{SEND} {topics.RESULTS}"

ANSWER_S = 10.0
"""One question to Jaeger."""

LOOK_EVERY_S = 0.5
"""Seconds between two looks for spans that are on their way: services export once a second."""


@dataclass(frozen=True)
class Span:
    """parent: the id of the span of the same trace that it is a child of, or None."""

    id: str
    parent: str | None
    name: str
    service: str


class TraceStore(Protocol):
    def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
        """Those that have arrived so far, by trace."""
        ...


def fault_in(spans: Sequence[Span]) -> str | None:
    """Why these spans are not one tree from the producer's `send ai.requests` to one `send ai.results`, or None."""
    if not spans:
        return "there is no span"
    ids = {span.id for span in spans}
    roots = [span for span in spans if span.parent is None]
    if [root.name for root in roots] != [FIRST]:
        return f"it begins with {', '.join(root.name for root in roots) or 'nothing'}, not {FIRST}"
    if orphans := [span.name for span in spans if span.parent is not None and span.parent not in ids]:
        return f"the parent of {orphans[0]} is missing"
    if (count := sum(span.name == LAST for span in spans)) != 1:
        return f"it has {count} spans {LAST}, not one"
    return None


@dataclass(frozen=True)
class Checked:
    """faults: trace id → what is wrong with it."""

    checked: int
    faults: Mapping[str, str]

    @property
    def complete(self) -> int:
        return self.checked - len(self.faults)


def check(store: TraceStore, trace_ids: Sequence[str], within_s: float) -> Checked:
    """Look until every trace is whole, for so long at most: spans arrive after the results that they tell of."""
    until = time.monotonic() + within_s
    left = list(trace_ids)
    while True:
        found = store.spans(left)
        faults = {each: fault for each in left if (fault := fault_in(found.get(each, ())))}
        if not faults or time.monotonic() >= until:
            return Checked(len(trace_ids), faults)
        left = list(faults)
        time.sleep(LOOK_EVERY_S)


class Jaeger:
    """Jaeger's query API."""

    def __init__(self, query: str) -> None:
        self._query = query

    def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
        return {each: self._trace(each) for each in trace_ids}

    def _trace(self, trace_id: str) -> Sequence[Span]:
        try:
            with urllib.request.urlopen(trace_url(self._query, trace_id), timeout=ANSWER_S) as response:  # noqa: S310
                return jaeger_spans(json.load(response))
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            # Not there yet (404), or Jaeger is busy: the next look tells.
            return ()


def jaeger_spans(answer: Mapping[str, Any]) -> Sequence[Span]:
    """The spans of the one trace in an answer of /api/traces/{id}."""
    return [
        Span(
            id=span["spanID"],
            parent=next(
                (
                    reference["spanID"]
                    for reference in span.get("references", ())
                    if reference["refType"] == "CHILD_OF" and reference["traceID"] == span["traceID"]
                ),
                None,
            ),
            name=span["operationName"],
            service=trace["processes"][span["processID"]]["serviceName"],
        )
        for trace in answer.get("data") or ()
        for span in trace["spans"]
    ]


class TraceFile:
    """The file that services write their spans to where there is no Jaeger: JSON lines, as the SDK has them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
        wanted = set(trace_ids)
        found: dict[str, list[Span]] = defaultdict(list)
        for trace_id, span in self._lines():
            if trace_id in wanted:
                found[trace_id].append(span)
        return found

    def _lines(self) -> Iterator[tuple[str, Span]]:
        try:
            with self._path.open("rb") as lines:
                for line in lines:
                    # The last one may still be being written.
                    if line.endswith(b"\n"):
                        yield file_span(json.loads(line))
        except FileNotFoundError:
            return


def file_span(given: Mapping[str, Any]) -> tuple[str, Span]:
    """Trace id and span of one line; ids there begin with 0x."""
    parent = given["parent_id"]
    return _hex(given["context"]["trace_id"]), Span(
        id=_hex(given["context"]["span_id"]),
        parent=_hex(parent) if parent else None,
        name=given["name"],
        service=given["resource"]["attributes"]["service.name"],
    )


def _hex(text: str) -> str:
    return text.removeprefix("0x")


class Both:
    """The file and a Jaeger that came late, to which what the file holds is handed over bit by bit."""

    def __init__(self, file: TraceFile, jaeger: Jaeger) -> None:
        self._stores = (file, jaeger)

    def spans(self, trace_ids: Iterable[str]) -> Mapping[str, Sequence[Span]]:
        wanted = list(trace_ids)
        answers = [store.spans(wanted) for store in self._stores]
        # While a span is handed over it is in both.
        return {
            each: list({span.id: span for answer in answers for span in answer.get(each, ())}.values())
            for each in wanted
        }


def store_of(addresses: Addresses) -> TraceStore | None:
    """Where this stack's spans are, or None where somebody else's collector gets them."""
    file = TraceFile(Path(addresses.traces_file)) if addresses.traces_file else None
    jaeger = Jaeger(addresses.jaeger_query) if addresses.jaeger_query else None
    return Both(file, jaeger) if file and jaeger else file or jaeger


def trace_url(query: str, trace_id: str) -> str:
    return f"{query}/api/traces/{trace_id}"


def how_to_see(trace_id: str, addresses: Addresses) -> str:
    """One line that says where the trace is."""
    if addresses.traces_file:
        return f"trace grep {trace_id} {addresses.traces_file}"
    if addresses.jaeger_query:
        return f"trace curl -s {trace_url(addresses.jaeger_query, trace_id)}"
    return f"trace {trace_id}, at {addresses.otlp or 'nowhere: no collector is configured'}"
