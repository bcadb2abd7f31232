"""Writes and reads ai.feedback: what became of answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaException

from millpond.v1 import feedback_pb2
from millpond_cli.delivery import deliver
from millpond_cli.errors import CommandError
from millpond_cli.topic_reader import everything_on
from millpond_core import json_codec, topics
from millpond_core.codec import CONTENT_TYPE, decode_feedback
from millpond_core.errors import Malformed
from millpond_core.identity import key_of
from millpond_core.processor import Outgoing
from millpond_core.settings import Settings


def send(settings: Settings, judgements: Iterable[feedback_pb2.Feedback]) -> None:
    """All of them, acknowledged. Raises CommandError."""
    deliver(
        settings,
        (Outgoing(topics.FEEDBACK, key_of(each.tenant, each.id), json_codec.encode(each)) for each in judgements),
    )


def read(settings: Settings) -> tuple[Sequence[tuple[feedback_pb2.Feedback, float]], int]:
    """(everything that is there with its time, seconds since 1970; how many records could not be read).

    Raises CommandError.
    """
    found: list[tuple[feedback_pb2.Feedback, float]] = []
    wrong = 0
    try:
        for record in everything_on(settings, topics.FEEDBACK):
            content_type = next((value for name, value in record.headers() or () if name == CONTENT_TYPE), None)
            try:
                found.append((decode_feedback(record.value(), content_type), record.timestamp()[1] / 1000))
            except Malformed:
                wrong += 1
    except KafkaException as failure:
        raise CommandError(f"{topics.FEEDBACK} cannot be read: {failure.args[0].str()}", 1) from failure
    return found, wrong
