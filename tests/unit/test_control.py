"""What is heard on ai.control, in whichever format, and what says nothing."""

from __future__ import annotations

import pytest

from millpond.v1 import control_pb2
from millpond_core.batch_name import BatchName
from millpond_core.codec import CONTENT_TYPE
from millpond_core.control import REMEMBERED, Control
from millpond_core.identity import key_of
from millpond_core.processor import Headers, Partition, Record

PROTOBUF: Headers = ((CONTENT_TYPE, b"application/protobuf"),)


def record(value: bytes | None, headers: Headers = ()) -> Record:
    return Record(Partition("ai.control", 0), 0, 0, None, value, headers)


def cancelling(id: str) -> Record:
    return record(control_pb2.Control(cancel=control_pb2.Cancel(id=id)).SerializeToString(), PROTOBUF)


def test_json_and_protobuf_say_the_same() -> None:
    control = Control()
    whole = control_pb2.Control(cancel=control_pb2.Cancel(tenant="acme", id="b", replay=2))
    control.hear([record(b'{"cancel": {"id": "a"}}'), record(whole.SerializeToString(), PROTOBUF)])
    assert list(control.cancelled) == [key_of("default", "a"), key_of("acme", "b", 2)]


def test_orders_to_forget_answers_are_heard_with_the_time_of_their_record_and_cancel_nothing() -> None:
    heard: list[tuple[control_pb2.Invalidate, float]] = []
    control = Control(lambda order, given_s: heard.append((order, given_s)))
    order = control_pb2.Invalidate(tenant="acme", tag="prices")
    value = b'{"invalidate": {"tenant": "acme", "tag": "prices"}}'
    written = control_pb2.Control(invalidate=order).SerializeToString()
    control.hear(
        [
            Record(Partition("ai.control", 0), 0, 1500, None, value, ()),
            Record(Partition("ai.control", 0), 1, 2500, None, written, PROTOBUF),
            record(b'{"invalidate": {"tag": "prices"}}'),
            cancelling("a"),
        ]
    )
    assert heard == [(order, 1.5), (order, 2.5)]
    assert list(control.cancelled) == [key_of("default", "a")]


def test_news_are_told_once() -> None:
    control = Control()
    control.hear([cancelling("a")])
    assert control.news() == [key_of("default", "a")]
    assert control.news() == []
    assert key_of("default", "a") in control.cancelled


def test_the_last_word_that_was_said_of_a_batch_holds() -> None:
    control = Control()
    march = BatchName("acme", "march")
    said = [
        f'{{"{word}_batch": {{"tenant": "acme", "name": "march"}}}}'.encode() for word in ("hold", "cancel", "resume")
    ]
    other = control_pb2.Control(hold_batch=control_pb2.Batch(name="march"))
    control.hear([*map(record, said), record(other.SerializeToString(), PROTOBUF)])
    assert control.word_of(march) == "resume"
    assert control.batch_news() == {march: "resume", BatchName("default", "march"): "hold"}
    assert control.batch_news() == {}
    control.hear([record(said[1])])
    assert control.batches("cancel") == [march]
    assert control.word_of(None) is None


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, ()),
        (b"", ()),
        (b"\xff", ()),
        (b"[]", ()),
        (b"{}", ()),
        (b'{"cancel": {}}', ()),
        (b'{"cancel": {"id": "a", "why": "b"}}', ()),
        (b'{"cancel": {"id": "a", "tenant": "a/b"}}', ()),
        (b'{"cancel_batch": {}}', ()),
        (b'{"hold_batch": {"name": "a", "tenant": "a/b"}}', ()),
        (b'{"cancel": {"id": "' + b"a" * 5000 + b'"}}', ()),
        (b"\xff", PROTOBUF),
        (b'{"cancel": {"id": "a"}}', ((CONTENT_TYPE, b"text/plain"),)),
    ],
)
def test_what_says_nothing_does_nothing(value: bytes | None, headers: Headers) -> None:
    control = Control()
    control.hear([record(value, headers), cancelling("b")])
    assert list(control.cancelled) == [key_of("default", "b")]
    assert control.batch_news() == {}


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    control = Control()
    control.hear([cancelling(str(number)) for number in range(REMEMBERED + 1)])
    assert len(control.cancelled) == REMEMBERED
    assert key_of("default", "0") not in control.cancelled
