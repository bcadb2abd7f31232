"""What cannot be read, or must not be run again, goes to ai.deadletter: the original record, and why.

The value, the key and the headers are the original's own; what is said about it is in headers that begin with
`dead-letter-`.
"""

from __future__ import annotations

from millpond_core import metrics, topics
from millpond_core.errors import Code
from millpond_core.processor import Headers, Outgoing, Record

PREFIX = "dead-letter-"


def dead_letter(record: Record, service: str, code: Code, message: str) -> Outgoing:
    """The dead letter of this record. message: for a person; never the record's text."""
    metrics.DEAD_LETTERS.labels(service, code).inc()
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
    return Outgoing(topics.DEADLETTER, record.key, record.value, (*original, *about))
