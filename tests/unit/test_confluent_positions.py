"""Where a partition is read from: what its group committed, and nothing else for any trouble on the way there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from millpond_core.processor.confluent_broker import PASSING, positions
from millpond_core.processor.confluent_reader import is_fatal

PLACES = [TopicPartition("ai.routed", number) for number in (0, 1)]

Answer = Sequence[TopicPartition] | KafkaError


class Broken:
    """Answers of librdkafka's consumer: one after the other."""

    def __init__(self, *answers: Answer) -> None:
        self.left = deque(answers)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        answer = self.left.popleft()
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return list(answer)


KNOWN = [TopicPartition("ai.routed", 0, 41), TopicPartition("ai.routed", 1)]
"""The second was never committed."""


@pytest.mark.parametrize("code", PASSING)
def test_a_broker_that_cannot_say_yet_is_asked_again(code: int) -> None:
    consumer = Broken(KafkaError(code), KNOWN)
    assert [place.offset for place in positions(consumer, PLACES)] == [place.offset for place in KNOWN]
    assert not consumer.left


@pytest.mark.parametrize("code", [KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_MEMBER_ID])
def test_what_does_not_pass_is_raised(code: int) -> None:
    with pytest.raises(KafkaException):
        positions(Broken(KafkaError(code)), PLACES)


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID])  # pyright: ignore[reportPrivateUsage]
def test_a_client_that_is_done_for_says_so_by_its_code_alone(code: int) -> None:
    """As librdkafka's consumer hands it out in a message's place: without the mark of a fatal error."""
    error = KafkaError(code)
    assert not error.fatal()
    assert is_fatal(error)
    assert not is_fatal(KafkaError(KafkaError._TRANSPORT))  # pyright: ignore[reportPrivateUsage]
