"""A stack that outlives the command that started it: a supervisor of its own in the background."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from millpond_cli.setup.home import Home
from millpond_cli.setup.progress import Report
from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.components import COMPONENTS, DEFAULT_PORT_BASE
from millpond_cli.stack.errors import DidNotStart, NotUp
from millpond_cli.stack.stack import running_state

LOOK_EVERY_S = 0.1
"""Seconds between two looks at the supervisor's log and state."""

STOP_WITHIN_S = 60.0
"""Seconds for the supervisor to stop everything: the sum of its components' deadlines, and some."""


def up(
    home: Path,
    port_base: int = DEFAULT_PORT_BASE,
    *,
    only: frozenset[str] | set[str] | None = None,
    replicas: Mapping[str, int] | None = None,
    config: Path | None = None,
    model: str = "real",
    run: Path | None = None,
    report: Report,
) -> Addresses:
    """Start a stack in the background and wait until it is ready; its lines are reported meanwhile.

    Raises DidNotStart with what the supervisor said. Interrupted, it takes the supervisor down again.
    """
    run = (run or Home(home).run).absolute()
    (run / "logs").mkdir(parents=True, exist_ok=True)
    log = run / "logs" / "supervisor.log"
    command = [sys.executable, "-m", "millpond_cli.stack", "run", "--home", str(home), "--run", str(run)]
    command += ["--port-base", str(port_base)]
    if only is not None:
        command += ["--only", ",".join(sorted(only))]
    for name, count in (replicas or {}).items():
        command += ["--replicas", f"{name}={count}"]
    command += ["--model", model]
    if config is not None:
        command += ["--config", str(config.absolute())]
    with log.open("ab") as sink:
        offset = sink.tell()
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        return _follow(supervisor, run, log, offset, report)
    except BaseException:
        if supervisor.poll() is None:
            supervisor.terminate()
            supervisor.wait()
        raise


def _follow(supervisor: subprocess.Popen[bytes], run: Path, log: Path, offset: int, report: Report) -> Addresses:
    """Report what is written to the log behind the offset until the stack is ready.

    Raises DidNotStart with what the supervisor wrote that is no report: why it ended.
    """
    text, reason, name = b"", list[str](), None
    with log.open("rb") as lines:
        lines.seek(offset)
        while True:
            has_ended = supervisor.poll() is not None
            state = running_state(run)
            text += lines.read()
            *whole, text = text.split(b"\n")
            for line in (each.decode(errors="replace") for each in whole):
                if not line.startswith(" "):
                    name = reported_name(line)
                if name is None:
                    reason.append(line)
                else:
                    report(name, line.removeprefix(f"{name}: "))
            if has_ended:
                raise DidNotStart("\n".join(reason) or f"the supervisor ended; see {log}")
            if state is not None and state.supervisor.pid == supervisor.pid and state.phase == "ready":
                return state.addresses
            time.sleep(LOOK_EVERY_S)


def reported_name(line: str) -> str | None:
    """Whose report the line is (`batcher-1: ready in 2.0 s`), None for any other line."""
    name, colon, _ = line.partition(": ")
    component = re.sub(r"-\d+$", "", name)
    return name if colon and component in {"stack", *(each.name for each in COMPONENTS)} else None


def down(home: Path, *, run: Path | None = None) -> None:
    """Stop the stack of this home and wait until it is gone. Raises NotUp."""
    run = (run or Home(home).run).absolute()
    state = running_state(run)
    if state is None:
        raise NotUp(f"no stack is up in {run}")
    try:
        handle = os.pidfd_open(state.supervisor.pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], STOP_WITHIN_S)[0]:
            raise DidNotStart(f"the supervisor (pid {state.supervisor.pid}) did not stop; see {run / 'logs'}")
    finally:
        os.close(handle)
