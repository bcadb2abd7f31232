"""Structured logs: one JSON object a line on stderr, with time, level, service, logger, event and trace_id.

`log.info("assigned", extra={"partitions": [0, 1]})` gives `{…, "event": "assigned", "partitions": [0, 1]}`. The trace
id is that of the span that `telemetry.current` made current, or an extra of that name. The text of a prompt or an
answer is never logged.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter

from millpond_core import telemetry

NAMES = {"levelname": "level", "name": "logger", "message": "event", "exc_info": "exception"}
"""Ours for the names that Python's logging uses."""


def start_logging(service: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Every logger of the process, libraries' included, at the level ("info")."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonFormatter(
            "%(levelname)s %(name)s %(message)s",
            rename_fields=NAMES,
            static_fields={"service": service},
            timestamp="time",
        )
    )
    handler.addFilter(_add_trace_id)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _add_trace_id(record: logging.LogRecord) -> bool:
    span = trace.get_current_span()
    if not hasattr(record, "trace_id") and span.get_span_context().is_valid:
        record.trace_id = telemetry.trace_id(span)
    return True
