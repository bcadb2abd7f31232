"""Dead letters on a running stack: they are found, shown and sent on their way again, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaException, Message

from millpond_cli import kafka_lag
from millpond_cli.client import Requests, Results
from millpond_cli.here import settings_of
from millpond_cli.setup.home import REPOSITORY, home
from millpond_cli.stack import Stack, free_port_base
from millpond_core import topics
from millpond_core.telemetry import TRACEPARENT, Tracing
from pipeline import PATIENCE_S, Pipeline, collect

COMPONENTS = frozenset({"kafka", "topics", "triton", "router", "cache", "batcher"})
"""Without a store for the cache: its being away means misses."""

FOLDERS = ("core", "proto/python", "cli")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Pipeline]:
    with Stack(home().root, free_port_base(), only=COMPONENTS, model="echo", run=tmp_path / "run") as running:
        yield Pipeline(running.addresses, settings_of(running.addresses))


def millpond(place: Path, *arguments: str, status: int = 0) -> str:
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in FOLDERS)
    ended = subprocess.run(
        [sys.executable, "-m", "millpond_cli", "deadletter", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "MILLPOND_HOME": str(place)},
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout


def awaited(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def nothing_waits(stack: Pipeline) -> bool:
    try:
        return not any(lag.records for lag in kafka_lag.lags(stack.settings))
    except KafkaException:
        return False


def body(text: str) -> bytes:
    return orjson.dumps({"id": "one", "tenant": "acme", "messages": [{"role": "user", "content": text}]})


def letters(stack: Pipeline) -> Sequence[Message]:
    return stack.everything_on(topics.DEADLETTER)


def test_a_dead_letter_is_found_shown_and_answered_once_under_its_own_trace(stack: Pipeline, tmp_path: Path) -> None:
    with Results(stack.settings) as results:
        with Requests(stack.settings, Tracing()) as requests:
            first = requests.send(body("the first text"), b"acme/one")
            collect(results, [first])
            second = requests.send(body("the second text"), b"acme/one")
            requests.send(b"{no request")
        awaited(lambda: len(letters(stack)) == 2)

        lines = millpond(tmp_path, "list").splitlines()
        assert sorted(line.split()[2] for line in lines) == ["id_conflict", "malformed"]
        assert millpond(tmp_path, "list", "--limit", "1", "--skip", "1").splitlines() == lines[1:]
        (conflict,) = map(json.loads, millpond(tmp_path, "list", "--reason", "id_conflict", "--json").splitlines())
        assert (conflict["tenant"], conflict["id"], conflict["service"]) == ("acme", "one", "cache")
        (unread,) = map(json.loads, millpond(tmp_path, "list", "--reason", "malformed", "--json").splitlines())
        assert (unread["tenant"], unread["id"], unread["service"]) == ("-", "-", "router")

        shown = millpond(tmp_path, "show", conflict["place"])
        assert f"{TRACEPARENT}: 00-{second}" in shown and "the second text" not in shown
        assert "the second text" in millpond(tmp_path, "show", conflict["place"], "--body")

        # Twice, as a person who is not sure does: its trace, its result, once.
        for _ in range(2):
            assert millpond(tmp_path, "replay", conflict["place"]) == "1 replayed\n"
        found = collect(results, [second])[second]
        assert (found.id, found.replay) == ("one", 1)
        assert "the second text" in found.output.text

    # What is still no request dies again, and says that it was replayed.
    assert millpond(tmp_path, "replay", "--reason", "malformed") == "1 replayed\n"
    awaited(lambda: len(letters(stack)) == 3)
    awaited(lambda: nothing_waits(stack))
    (again,) = [each for each in letters(stack) if dict(each.headers() or ()).get("replay")]
    assert (again.value(), dict(again.headers() or ())["dead-letter-reason"]) == (b"{no request", b"malformed")
    assert sorted((result.id, result.replay) for result in stack.results()) == [("one", 0), ("one", 1)]
    millpond(tmp_path, "show", "0-99", status=2)
