"""Structured logs: one JSON object a line on stderr, with time, level, service, logger, event and trace_id.

`log.info("assigned", extra={"partitions": [0, 1]})` gives `{…, "event": "assigned", "partitions": [0, 1]}`. The trace
id is that of the span that `telemetry.current` made current, or an extra of that name. The text of a prompt or an
answer is never logged.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter

from millpond_core import telemetry

NAMES = {"levelname": "level", "name": "logger", "message": "event", "exc_info": "exception"}
"""Ours for the names that Python's logging uses."""


NO_CONNECTION = ": Connect to "
"""What librdkafka says in a line that a broker takes no connection."""

SAY_AGAIN_S = 10.0
"""Between two lines that Kafka is away: each client would say it some thirty times a second."""


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
    if level != "debug":
        handler.addFilter(KafkaAway())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _add_trace_id(record: logging.LogRecord) -> bool:
    span = trace.get_current_span()
    if not hasattr(record, "trace_id") and span.get_span_context().is_valid:
        record.trace_id = telemetry.trace_id(span)
    return True


class KafkaAway(logging.Filter):
    """Of all that this process's clients say of a Kafka that is away, lets a line through once a while."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if NO_CONNECTION not in said:
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SAY_AGAIN_S
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "waiting for Kafka: start it, or correct kafka_bootstrap: %s", (said,)
        return True
