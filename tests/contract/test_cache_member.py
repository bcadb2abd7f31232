"""The cache's own consumers on a real Kafka: one whose place is taken says so, and does not wait for ever."""

from __future__ import annotations

import logging
import time

import pytest

from cluster import RealKafka, fresh
from millpond_cache.member import member, records_in
from millpond_core.processor import Fenced, Outgoing
from millpond_core.settings import Settings

BOUND_S = 60.0
"""Until something that must come is missed."""


def test_a_member_gets_records_until_another_has_its_place(kafka: str) -> None:
    cluster, settings = RealKafka(kafka), Settings(kafka_bootstrap=kafka)
    topic, group = cluster.topic(1), fresh("group")
    cluster.append(Outgoing(topic, b"key", b"value"))
    first, second = (member(settings, group, 64, logging.getLogger(__name__)) for _ in range(2))
    until = time.monotonic() + BOUND_S
    first.subscribe([topic])
    found: list[bytes | None] = []
    while not found and time.monotonic() < until:
        found += [record.value() for record in records_in(first.consume(10, 0.1))]
    assert found == [b"value"]
    second.subscribe([topic])

    def go_on() -> None:
        while time.monotonic() < until:
            second.consume(10, 0.1)
            records_in(first.consume(10, 0.1))

    with pytest.raises(Fenced):
        go_on()
    first.close()
    second.close()
