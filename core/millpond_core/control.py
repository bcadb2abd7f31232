"""What users say to a running pipeline, on ai.control, as one process has heard it. Pure.

Every stage hears everything and keeps what may concern a request that has not come yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeVar

from millpond.v1 import control_pb2
from millpond_core import metrics
from millpond_core.batch_name import BatchName
from millpond_core.codec import CONTENT_TYPE, decode_control
from millpond_core.errors import Code, Refused
from millpond_core.identity import NO_TENANT, is_id, is_tenant, key_of
from millpond_core.processor import Record, header

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")

REMEMBERED = 200_000
"""Cancelled requests that are remembered, and batches of which something was said; the oldest is forgotten first. A key
has some 100 bytes: 20 MB."""

Word = Literal["cancel", "hold", "resume"]
"""Of a batch: end its requests, start none of them, go on with them."""

WORDS: Mapping[str, Word] = {"cancel_batch": "cancel", "hold_batch": "hold", "resume_batch": "resume"}
"""By the action's name in `Control`."""


MOST_CHARACTERS = 512
"""Of each text of an order to forget answers, as of a request's metadata: an order must fit into a record."""

Invalidated = Callable[[control_pb2.Invalidate, float], None]
"""Hears an order to forget answers, and when it was given: seconds since 1970, as its record says."""


class Control:
    """Which requests were cancelled, and what was said of which batch. Orders to forget answers are passed on, as they
    are read, to whoever keeps answers.
    """

    def __init__(self, invalidated: Invalidated | None = None) -> None:
        self._invalidated = invalidated
        self._cancelled: dict[bytes, None] = {}
        """Keys, in the order in which they were heard."""
        self._news: list[bytes] = []
        self._words: dict[BatchName, Word] = {}
        self._batch_news: dict[BatchName, Word] = {}

    @property
    def cancelled(self) -> Collection[bytes]:
        """Keys of requests that are to end as cancelled."""
        return self._cancelled.keys()

    def word_of(self, batch: BatchName | None) -> Word | None:
        """The last one that was said of a batch."""
        return self._words.get(batch) if batch else None

    def batches(self, word: Word) -> Collection[BatchName]:
        """Those of which this is the last word."""
        return [batch for batch, said in self._words.items() if said == word]

    def hear(self, records: Sequence[Record]) -> None:
        """Take in records of ai.control. One that says nothing is logged and counted: it has no owner to answer to."""
        for record in records:
            try:
                control = decode_control(record.value, header(record.headers, CONTENT_TYPE))
                if control.WhichOneof("action") in WORDS:
                    batch, word = _said_of_batch(control)
                    self._batch_news[batch] = word
                    _remember(self._words, batch, word)
                elif control.HasField("invalidate"):
                    check(control.invalidate)
                    if self._invalidated:
                        self._invalidated(control.invalidate, record.timestamp_ms / 1000)
                else:
                    key = _cancelled_by(control.cancel)
                    self._news.append(key)
                    _remember(self._cancelled, key, None)
            except Refused as refused:
                metrics.CONTROL_REFUSED.inc()
                logger.warning("%s-%d@%d does nothing: %s", *record.partition, record.offset, refused)

    def news(self) -> Sequence[bytes]:
        """Keys cancelled since this was asked last."""
        news, self._news = self._news, []
        return news

    def batch_news(self) -> Mapping[BatchName, Word]:
        """The last word of each batch of which one was said since this was asked last."""
        news, self._batch_news = self._batch_news, {}
        return news


def _remember(memory: dict[Key, Value], key: Key, value: Value) -> None:
    """As the latest; the oldest gives way."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]


def check(order: control_pb2.Invalidate) -> None:
    """Raises Refused where it does not say which answers are meant."""
    narrowed = order.source_id or order.tag or order.prefix or order.model or order.HasField("older_than")
    if bool(order.tenant) == order.all_tenants:
        raise Refused(Code.INVALID_FIELD, "either tenant or all_tenants is needed")
    if order.tenant and not is_tenant(order.tenant):
        raise Refused(Code.INVALID_FIELD, "tenant: must be the tenant of a request")
    if order.all_tenants and not narrowed:
        raise Refused(Code.INVALID_FIELD, "all_tenants: say which, by older_than, model, tag, prefix or source_id")
    if order.source_id and not is_id(order.source_id):
        raise Refused(Code.INVALID_FIELD, "source_id: must be the id of a request")
    for name in ("tag", "prefix", "model", "by", "order"):
        if len(getattr(order, name)) > MOST_CHARACTERS:
            raise Refused(Code.INVALID_FIELD, f"{name}: has over {MOST_CHARACTERS} characters")
    try:
        order.older_than.ToDatetime()
    except ValueError:
        raise Refused(Code.INVALID_FIELD, "older_than: must be a time in the years 1 to 9999") from None


def _cancelled_by(cancel: control_pb2.Cancel) -> bytes:
    """The key of the request that is cancelled. Raises Refused."""
    if not is_id(cancel.id):
        raise Refused(Code.INVALID_FIELD, "cancel.id: must be the id of a request")
    return key_of(_tenant("cancel", cancel.tenant), cancel.id, cancel.replay)


def _said_of_batch(control: control_pb2.Control) -> tuple[BatchName, Word]:
    """Raises Refused."""
    action = control.WhichOneof("action") or ""
    batch: control_pb2.Batch = getattr(control, action)
    if not batch.name:
        raise Refused(Code.INVALID_FIELD, f"{action}.name: must be the metadata.batch of requests")
    return BatchName(_tenant(action, batch.tenant), batch.name), WORDS[action]


def _tenant(action: str, tenant: str) -> str:
    """Raises Refused."""
    if tenant and not is_tenant(tenant):
        raise Refused(Code.INVALID_FIELD, f"{action}.tenant: must be the tenant of a request")
    return tenant or NO_TENANT
