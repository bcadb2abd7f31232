"""Hands the spans that services wrote to a file over to Jaeger.

A first start does not wait for Jaeger's build: its services write their spans to a file, a JSON object a line, as the
SDK's `ReadableSpan.to_json` has it (core/millpond_core/telemetry.py). Once Jaeger is there, in this start or a later
one, what the file holds is sent on as OTLP. The mark of how far that came is written after the answer, so a crash sends
a batch twice at most; Jaeger keeps one of two equal spans.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

BATCH_BYTES = 1 << 20
"""Bytes of the file that are read, and sent, at a time."""

KEPT_BYTES = 256 << 20
"""Bytes that the file may have at a start, where no Jaeger takes it; some 200,000 spans. A longer one is put aside."""

PATIENCE_S = 10.0
"""Seconds for Jaeger to take a batch."""

SCOPE = "millpond"
"""The instrumentation scope, which the file does not record."""

KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
STATUS = {"UNSET": 0, "OK": 1, "ERROR": 2}
"""The numbers that OTLP has for the SDK's names."""


class NotTaken(Exception):
    """Jaeger did not take a batch; it is sent again later."""


def otlp(lines: Iterable[bytes]) -> dict[str, Any]:
    """An ExportTraceServiceRequest in OTLP's JSON. A line that is no span is left out."""
    groups: dict[str, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {}
    for line in lines:
        try:
            given = json.loads(line)
            resource = given["resource"]["attributes"]
            group = groups.setdefault(json.dumps(resource, sort_keys=True), (resource, []))
            group[1].append(_span(given))
        except (ValueError, KeyError, TypeError):
            continue
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": SCOPE}, "spans": spans}],
            }
            for resource, spans in groups.values()
        ]
    }


def _span(given: Mapping[str, Any]) -> dict[str, Any]:
    parent = given.get("parent_id")
    status = given.get("status") or {}
    return {
        **_ids(given["context"]),
        **({"parentSpanId": _hex(parent)} if parent else {}),
        "name": given["name"],
        "kind": KINDS[given["kind"].removeprefix("SpanKind.")],
        "startTimeUnixNano": _nanoseconds(given["start_time"]),
        "endTimeUnixNano": _nanoseconds(given["end_time"]),
        "attributes": _attributes(given.get("attributes") or {}),
        "events": [
            {
                "name": event["name"],
                "timeUnixNano": _nanoseconds(event["timestamp"]),
                "attributes": _attributes(event.get("attributes") or {}),
            }
            for event in given.get("events") or ()
        ],
        "links": [
            {**_ids(link["context"]), "attributes": _attributes(link.get("attributes") or {})}
            for link in given.get("links") or ()
        ],
        "status": {
            "code": STATUS[status.get("status_code", "UNSET")],
            **({"message": status["description"]} if status.get("description") else {}),
        },
    }


def _ids(context: Mapping[str, str]) -> dict[str, str]:
    return {"traceId": _hex(context["trace_id"]), "spanId": _hex(context["span_id"])}


def _hex(number: str) -> str:
    return number.removeprefix("0x")


def _nanoseconds(time: str) -> str:
    """OTLP's 64-bit numbers are text in JSON. time: "2026-11-24T08:00:00.123456Z"."""
    at = datetime.fromisoformat(re.sub("Z$", "+00:00", time))
    return str(int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000)


def _attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
        case _:
            return {"stringValue": str(value)}


def whole_lines(chunk: bytes) -> Sequence[bytes]:
    """The lines of the chunk that have their end in it."""
    return chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)


class TraceFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = path.with_name(f"{path.name}.sent")

    @property
    def has_unsent(self) -> bool:
        try:
            return self.path.stat().st_size > self._sent()
        except FileNotFoundError:
            return False

    def begin(self) -> None:
        """Before anything writes to it: forget what was sent, and keep what was not from growing without end."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self._sent():
            self.path.unlink()
        elif size > KEPT_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        else:
            return
        self._mark.unlink(missing_ok=True)

    def send(self, endpoint: str) -> int:
        """Send all whole lines that were not sent yet. Returns how many. Raises NotTaken.

        endpoint: OTLP over HTTP, "http://host:4318".
        """
        count = 0
        size = BATCH_BYTES
        while True:
            at = self._sent()
            with self.path.open("rb") as file:
                file.seek(at)
                chunk = file.read(size)
            lines = whole_lines(chunk)
            if not lines:
                if len(chunk) < size:
                    return count
                size *= 2  # A line that is longer than a batch.
                continue
            size = BATCH_BYTES
            _post(f"{endpoint}/v1/traces", otlp(lines))
            count += len(lines)
            self._mark.write_text(str(at + sum(map(len, lines))))

    def _sent(self) -> int:
        """Bytes of the file that were sent."""
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0


def _post(url: str, body: Mapping[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 (an address of our own stack)
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            answer.read()
    except (OSError, urllib.error.URLError) as failure:
        raise NotTaken(str(failure)) from failure
