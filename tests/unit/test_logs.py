"""Every line of a log is one JSON object that says when, where and what, and in which trace."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from millpond_core import telemetry
from millpond_core.logs import start_logging
from millpond_core.telemetry import Tracing
from millpond_frontier import provider


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    before = logging.root.handlers[:], logging.root.level
    text = io.StringIO()
    start_logging("millpond-router", "info", text)
    yield text
    logging.root.handlers[:], logging.root.level = before


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_where_and_what(stream: io.StringIO) -> None:
    logging.getLogger("millpond.test").info("assigned\nnow", extra={"partitions": [0, 1]})
    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "INFO",
        "service": "millpond-router",
        "logger": "millpond.test",
        "event": "assigned\nnow",
        "partitions": [0, 1],
    }


def test_the_trace_is_the_current_spans_or_the_one_that_is_named(stream: io.StringIO) -> None:
    log = logging.getLogger("millpond.test")
    span = Tracing().received("a", None, partition=0, offset=0)
    with telemetry.current(span):
        log.info("in it")
        log.info("of another", extra={"trace_id": "another"})
    log.info("outside")
    assert [line.get("trace_id") for line in lines(stream)] == [telemetry.trace_id(span), "another", None]


def test_an_exception_is_in_its_line(stream: io.StringIO) -> None:
    logging.getLogger("millpond.test").error("crashed", exc_info=ValueError("broken wheel"))
    (line,) = lines(stream)
    assert line["event"] == "crashed"
    assert "ValueError: broken wheel" in line["exception"]


@pytest.mark.parametrize("library", ["httpx2", "openai"])
def test_a_providers_address_and_prompt_are_in_no_line(library: str, stream: io.StringIO) -> None:
    assert provider.PATH
    logging.getLogger(library).info("HTTP Request: POST https://models.example/v1?key=hunter2")
    assert lines(stream) == []


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    logging.getLogger("millpond.test").debug("detail")
    assert lines(stream) == []


def test_a_kafka_that_is_away_is_one_line_that_says_what_to_do(stream: io.StringIO) -> None:
    log = logging.getLogger("millpond.test")
    for client in ("consumer-1", "producer-2", "consumer-1"):
        log.error("%s [%s] %s", "FAIL", client, "127.0.0.1:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused")
    log.error("%s [%s] %s", "TXNERR", "producer-2", "the transaction failed")
    away, other = lines(stream)
    assert away["event"].startswith("waiting for Kafka: start it, or correct kafka_bootstrap: FAIL [consumer-1]")
    assert away["level"] == "WARNING"
    assert (other["event"], other["level"]) == ("TXNERR [producer-2] the transaction failed", "ERROR")
