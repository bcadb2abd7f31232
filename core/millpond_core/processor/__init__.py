"""The transactional processor: takes records, lets a strategy work on them, and commits results with their offsets.

Three rules hold one result per request together: only stages behind the claim write results; no transaction without
offsets; no transaction across I/O. ARCHITECTURE.md has the argument.
"""

from millpond_core.processor.broker import Aborted, Assigned, Broker, Fenced, Polled, Position, Reader, Unreachable
from millpond_core.processor.claims import Claims, Verdict
from millpond_core.processor.offset_map import OffsetMap
from millpond_core.processor.processor import (
    ATTEMPT_HEADER,
    BODY_HEADER,
    Finish,
    Processor,
    ProcessorSettings,
    Strategy,
    Taken,
)
from millpond_core.processor.record import (
    CONTENT_BYTES,
    LARGEST_RECORD_BYTES,
    Headers,
    Outgoing,
    Partition,
    Record,
    header,
    with_header,
)
from millpond_core.processor.unread import NEVER, Unread, mark_of

__all__ = [
    "ATTEMPT_HEADER",
    "BODY_HEADER",
    "CONTENT_BYTES",
    "LARGEST_RECORD_BYTES",
    "NEVER",
    "Aborted",
    "Assigned",
    "Broker",
    "Claims",
    "Fenced",
    "Finish",
    "Headers",
    "OffsetMap",
    "Outgoing",
    "Partition",
    "Polled",
    "Position",
    "Processor",
    "ProcessorSettings",
    "Reader",
    "Record",
    "Strategy",
    "Taken",
    "Unreachable",
    "Unread",
    "Verdict",
    "header",
    "mark_of",
    "with_header",
]
