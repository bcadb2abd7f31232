"""A process is known by its id and its start, so that no other is ever ended in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.identity import ProcessId, identify, is_alive, marked_with, parse_stat
from millpond_cli.stack.leftovers import end_leftovers, kill_exactly, sweep
from millpond_cli.stack.state import MARK, ComponentState, State, read, write

ADDRESSES = Addresses(
    *[""] * 9, otlp=None, jaeger_query=None, jaeger_otlp_http=None, traces_file=None, http={}, config=""
)


@contextmanager
def process(mark: str | None = None) -> Generator[subprocess.Popen[bytes]]:
    """One that runs until it is ended."""
    environment = {**os.environ, **({MARK: mark} if mark else {})}
    forever = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(forever, env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        try:
            yield running
        finally:
            running.kill()


def identity_of(running: subprocess.Popen[bytes]) -> ProcessId:
    identity = identify(running.pid)
    assert identity is not None
    return identity


def state_of(stack: str, **recorded: ProcessId) -> State:
    return State(
        stack=stack,
        supervisor=ProcessId(1, 0),
        phase="ready",
        port_base=19000,
        addresses=ADDRESSES,
        components={
            name: ComponentState("ready", 0.0, 0, identity, {"http": 1}, "/log") for name, identity in recorded.items()
        },
    )


@given(name=st.text(st.characters(exclude_characters="\n")), started=st.integers(0, 2**63))
@pytest.mark.parametrize(
    ("state", "threads", "has_ended"),
    [("S", 1, False), ("R", 9, False), ("Z", 1, True), ("Z", 9, False), ("X", 0, True)],
)
def test_a_process_is_read_whatever_its_name(
    name: str, started: int, state: str, threads: int, has_ended: bool
) -> None:
    before = " ".join("0" for _ in range(16))
    assert parse_stat(f"7 ({name}) {state} {before} {threads} 0 {started} 0 0\n") == (has_ended, started)


def test_this_process_is_alive_and_the_same_id_with_another_start_is_not() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert is_alive(own)
    assert not is_alive(ProcessId(own.pid, own.started + 1))


def test_one_that_ended_and_is_not_waited_for_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert identify(ended.pid) is None


def test_another_process_with_a_recorded_id_is_left_alone() -> None:
    with process() as bystander:
        identity = identity_of(bystander)
        kill_exactly(ProcessId(identity.pid, identity.started - 1))
        assert end_leftovers(state_of("s", kafka=ProcessId(identity.pid, identity.started - 1))) == 0
        assert bystander.poll() is None


def test_what_a_stack_recorded_and_what_carries_its_mark_is_ended() -> None:
    with process() as recorded, process("mine/kafka/") as marked, process("other/kafka/") as others:
        assert end_leftovers(state_of("mine", kafka=identity_of(recorded))) == 2
        assert recorded.wait() == marked.wait() == -9
        assert others.poll() is None


def test_a_sweep_takes_one_components_processes_only() -> None:
    with process("mine/kafka/") as kafka, process("mine/kafka-1/") as replica:
        assert sweep("mine/kafka/") == {ProcessId(kafka.pid, s.started) for s in [_dead(kafka)]}
        assert replica.poll() is None
        assert marked_with(f"{MARK}=mine/") == (identity_of(replica),)


def _dead(running: subprocess.Popen[bytes]) -> ProcessId:
    """A zombie's identity, which `identify` does not give."""
    _, started = parse_stat(Path(f"/proc/{running.pid}/stat").read_text())
    return ProcessId(running.pid, started)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = state_of("s", kafka=ProcessId(7, 8))
    write(tmp_path / "state.json", state)
    assert read(tmp_path / "state.json") == state


def test_a_torn_or_foreign_state_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read(path) is None
    for text in ("", "{", "[]", "null", '{"version": 0}', '{"version": 1}', '{"version": 1, "components": 3}'):
        path.write_text(text)
        assert read(path) is None
