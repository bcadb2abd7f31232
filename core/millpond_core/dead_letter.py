"""What cannot be read, or must not be run again, goes to ai.deadletter: the original record, and why.

The value, the key and the headers are the original's own; what is said about it is in headers that begin with
`dead-letter-`.
"""

from __future__ import annotations

import logging

from millpond_core import metrics, telemetry, topics
from millpond_core.errors import Code
from millpond_core.processor import CONTENT_BYTES, Headers, Outgoing, Record

logger = logging.getLogger(__name__)

PREFIX = "dead-letter-"


def dead_letter(record: Record, service: str, code: Code, message: str) -> Outgoing:
    """The dead letter of this record; one that is too large for the topic is cut, and says so.

    message: for a person; never the record's text.
    """
    metrics.DEAD_LETTERS.labels(service, code).inc()
    topic, number = record.partition
    place = {"code": code, "topic": topic, "partition": number, "offset": record.offset}
    logger.warning("a dead letter", extra={**place, **telemetry.trace_of(record.headers)})
    about: Headers = (
        (f"{PREFIX}reason", code.encode()),
        (f"{PREFIX}message", message.encode()),
        (f"{PREFIX}service", service.encode()),
        (f"{PREFIX}topic", record.partition.topic.encode()),
        (f"{PREFIX}partition", str(record.partition.number).encode()),
        (f"{PREFIX}offset", str(record.offset).encode()),
        (f"{PREFIX}timestamp-ms", str(record.timestamp_ms).encode()),
    )
    # A dead letter that is read again and fails again tells of its last death only.
    original = tuple(each for each in record.headers if not each[0].startswith(PREFIX))
    key, value = record.key, record.value
    rest = len(key or b"") + sum(len(name.encode()) + len(text or b"") for name, text in original)
    if rest + len(value or b"") > CONTENT_BYTES:
        about = (*about, (f"{PREFIX}cut-from-bytes", str(len(value or b"")).encode()))
        if rest > CONTENT_BYTES // 2:
            key, original, rest = None, (), 0
        value = (value or b"")[: CONTENT_BYTES - rest]
    return Outgoing(topics.DEADLETTER, key, value, (*original, *about))
