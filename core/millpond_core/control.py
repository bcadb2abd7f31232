"""What users say to a running pipeline, on ai.control, as one process has heard it. Pure.

Every stage hears everything and keeps what may concern a request that has not come yet.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from millpond_core import metrics
from millpond_core.codec import CONTENT_TYPE, decode_control
from millpond_core.errors import Code, Refused
from millpond_core.identity import NO_TENANT, is_id, is_tenant, key_of
from millpond_core.processor import Record, header

logger = logging.getLogger(__name__)

REMEMBERED = 200_000
"""Cancelled requests that are remembered; the oldest is forgotten first. A key has some 100 bytes: 20 MB."""


class Control:
    """Which requests were cancelled."""

    def __init__(self) -> None:
        self._cancelled: dict[bytes, None] = {}
        """Keys, in the order in which they were heard."""
        self._news: list[bytes] = []

    @property
    def cancelled(self) -> Collection[bytes]:
        """Keys of requests that are to end as cancelled."""
        return self._cancelled.keys()

    def hear(self, records: Sequence[Record]) -> None:
        """Take in records of ai.control. One that says nothing is logged and counted: it has no owner to answer to."""
        for record in records:
            try:
                key = _cancelled_by(record)
            except Refused as refused:
                metrics.CONTROL_REFUSED.inc()
                logger.warning("%s-%d@%d does nothing: %s", *record.partition, record.offset, refused)
                continue
            self._cancelled.pop(key, None)
            self._cancelled[key] = None
            self._news.append(key)
        while len(self._cancelled) > REMEMBERED:
            del self._cancelled[next(iter(self._cancelled))]

    def news(self) -> Sequence[bytes]:
        """Keys cancelled since this was asked last."""
        news, self._news = self._news, []
        return news


def _cancelled_by(record: Record) -> bytes:
    """The key of the request that a record cancels. Raises Refused."""
    cancel = decode_control(record.value, header(record.headers, CONTENT_TYPE)).cancel
    if not is_id(cancel.id):
        raise Refused(Code.INVALID_FIELD, "cancel.id: must be the id of a request")
    if cancel.tenant and not is_tenant(cancel.tenant):
        raise Refused(Code.INVALID_FIELD, "cancel.tenant: must be the tenant of a request")
    return key_of(cancel.tenant or NO_TENANT, cancel.id, cancel.replay)
