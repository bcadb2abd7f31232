"""The local stack with a real Kafka: it comes up, names what is in its way, and leaves nothing behind.

Needs what `./millpond up` sets up, in MILLPOND_HOME or `.millpond/`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millpond_cli.setup.home import Home, home
from millpond_cli.stack import (
    AlreadyUp,
    DidNotStart,
    NotUp,
    PortTaken,
    Stack,
    State,
    down,
    free_port_base,
    running,
    running_state,
    up,
)
from millpond_cli.stack.identity import is_alive, marked_with
from millpond_cli.stack.state import MARK, mark
from millpond_core.telemetry import start_tracing

HOME = home().root

KAFKA = frozenset({"kafka"})

BOUND_S = 120
"""Seconds until something that must come is missed: a hang's bound, far above what a busy machine needs."""


POLL_S = 0.02
"""Seconds between two looks at a condition."""


def awaited(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        select.select([], [], [], POLL_S)


def kept_in(lines: list[tuple[str, str]]) -> Callable[[str, str], None]:
    return lambda name, text: lines.append((name, text))


def topics(bootstrap: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=BOUND_S).topics)


def make_topic(bootstrap: str, name: str) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(name, 1, 1)])[name].result(BOUND_S)


def processes_of(stack: str) -> int:
    return len(marked_with(f"{MARK}={mark(stack)}"))


def spans_of(trace: str) -> list[dict[str, Any]]:
    """The spans of a trace as Jaeger's API gives them; none while it does not know it."""
    try:
        with urllib.request.urlopen(trace, timeout=BOUND_S) as answer:
            return json.load(answer)["data"][0]["spans"]
    except urllib.error.HTTPError:
        return []


@contextmanager
def foreground(run: Path, port_base: int) -> Generator[tuple[subprocess.Popen[str], State]]:
    """`python -m millpond_cli.stack run` with a Kafka that is ready, and what it says of itself."""
    command = [sys.executable, "-m", "millpond_cli.stack", "run", "--only", "kafka", "--run", str(run)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    supervisor = subprocess.Popen(
        [*command, "--home", str(HOME), "--port-base", str(port_base)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        awaited(lambda: running(HOME, run=run) is not None or supervisor.poll() is not None, "the stack")
        state = running_state(run)
        assert state is not None, supervisor.communicate()[0]
        yield supervisor, state
    finally:
        supervisor.kill()
        supervisor.communicate()


def test_one_stack_runs_and_comes_back_and_a_second_beside_it_is_refused(tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    base = free_port_base()
    with Stack(HOME, base, only=KAFKA, run=tmp_path, report=kept_in(lines)) as stack:
        assert stack.addresses.kafka == f"127.0.0.1:{base + 92}"
        assert running(HOME, run=tmp_path) == stack.addresses
        make_topic(stack.addresses.kafka, "kept")

        with pytest.raises(AlreadyUp, match=f"a stack is up in {tmp_path} already .pid {os.getpid()}."):
            Stack(HOME, base + 200, only=KAFKA, run=tmp_path).start()

        stack.kill("kafka")
        stack.wait_ready("kafka")
        assert stack.status()["kafka"].restarts == 1
        assert topics(stack.addresses.kafka) >= {"kept"}
    assert running(HOME, run=tmp_path) is None
    assert [text.split(" in ")[0] for _, text in lines if "SIGKILL" not in text] == ["ready", "ready", "stopped"]

    # Elsewhere, the same data: a port base is no part of what Kafka keeps.
    with Stack(HOME, free_port_base(), only=KAFKA, run=tmp_path) as moved:
        assert topics(moved.addresses.kafka) >= {"kept"}


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    base = free_port_base()
    with socket.socket() as listener:
        # As servers do: connections of a stack that had this base before may linger (TIME_WAIT).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", base + 92))
        listener.listen()
        stack = Stack(HOME, base, only=KAFKA, run=tmp_path)
        with pytest.raises(PortTaken) as failure:
            stack.start()
    expected = f"port {base + 92} (kafka) is taken by pid {os.getpid()} ("
    assert str(failure.value).startswith(expected)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_no_process(tmp_path: Path, ending: signal.Signals, code: int) -> None:
    with foreground(tmp_path, free_port_base()) as (supervisor, state):
        assert processes_of(state.stack) == 1
        supervisor.send_signal(ending)
        output, _ = supervisor.communicate(timeout=BOUND_S)
        assert supervisor.returncode == code
        assert "Traceback" not in output
        assert processes_of(state.stack) == 0
        assert not (tmp_path / "state.json").exists()


def test_a_killed_supervisor_is_cleaned_up_by_the_next_start(tmp_path: Path) -> None:
    base = free_port_base()
    with foreground(tmp_path, base) as (supervisor, state):
        supervisor.kill()
        supervisor.wait()
    kafka = state.components["kafka"].identity
    assert kafka is not None
    # The leash has ended Kafka itself. What has none, such as a component's child, is left: here in its place.
    awaited(lambda: not is_alive(kafka), "Kafka's end")
    forever = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(
        forever, env={**os.environ, MARK: mark(state.stack, "kafka")}, stdout=subprocess.PIPE, start_new_session=True
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        lines: list[tuple[str, str]] = []
        with Stack(HOME, base, only=KAFKA, run=tmp_path, report=kept_in(lines)):
            assert left.wait(BOUND_S) == -signal.SIGKILL
    assert lines[0] == ("stack", "the last one was not stopped: ended 1 processes that it left")


@pytest.mark.skipif(not home().jaeger_binary.exists(), reason="Jaeger was not built: there is no Go here")
def test_a_jaeger_that_comes_late_gets_the_spans_that_were_written_to_the_file(tmp_path: Path) -> None:
    elsewhere = Home(tmp_path / "home")
    with Stack(elsewhere.root, free_port_base(), only={"jaeger"}, jaeger_is_coming=True) as stack:
        assert stack.addresses.otlp is None
        assert stack.addresses.traces_file is not None
        tracing = start_tracing("early", otlp_endpoint=None, traces_file=Path(stack.addresses.traces_file))
        parent = tracing.send("ai.requests", None)
        tracing.send("ai.routed", parent).end()
        parent.end()
        tracing.close()

        elsewhere.jaeger_binary.parent.mkdir(parents=True)
        elsewhere.jaeger_binary.symlink_to(home().jaeger_binary)
        stack.wait_ready("jaeger")
        trace = f"{stack.addresses.jaeger_query}/api/traces/{parent.get_span_context().trace_id:032x}"
        awaited(lambda: len(spans_of(trace)) == 2, "the trace")
        (root,) = (span["spanID"] for span in spans_of(trace) if not span["references"])
        (edge,) = (reference for span in spans_of(trace) for reference in span["references"])
        assert (edge["refType"], edge["spanID"]) == ("CHILD_OF", root)
    # The next start finds Jaeger there, and nothing left to hand over.
    with Stack(elsewhere.root, free_port_base(), only={"jaeger"}) as stack:
        assert stack.addresses.traces_file is None
        assert not (elsewhere.run / "traces.jsonl").exists()


def test_up_leaves_it_running_and_down_takes_it_away(tmp_path: Path) -> None:
    base = free_port_base()
    lines: list[tuple[str, str]] = []
    addresses = up(HOME, base, only=KAFKA, run=tmp_path, report=kept_in(lines))
    try:
        state = running_state(tmp_path)
        assert state is not None
        assert topics(addresses.kafka) == set()
        with pytest.raises(DidNotStart, match="a stack is up in"):
            up(HOME, base, only=KAFKA, run=tmp_path, report=kept_in([]))
        assert running(HOME, run=tmp_path) == addresses
    finally:
        down(HOME, run=tmp_path)
    assert processes_of(state.stack) == 0
    assert not is_alive(state.supervisor)
    assert [name for name, _ in lines] == ["kafka", "stack"]
    with pytest.raises(NotUp, match="no stack is up"):
        down(HOME, run=tmp_path)
