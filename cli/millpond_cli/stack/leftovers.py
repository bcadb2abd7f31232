"""Ends processes for good: exactly those meant, and what they left behind."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from millpond_cli.stack.identity import PROC, ProcessId, identify, is_alive, marked_with
from millpond_cli.stack.state import MARK, State, mark

PATIENCE_S = 10.0
"""Seconds until a killed process must be gone; one in the middle of a disk write takes a while."""


def kill_exactly(identity: ProcessId) -> None:
    """SIGKILL this process, and no other that may have its id by now, and wait until it has ended."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        # The handle is of whoever has the id now; from here on it can't change hands.
        if identify(identity.pid) != identity:
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], PATIENCE_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def sweep(beginning: str, proc: Path = PROC) -> set[ProcessId]:
    """Kill every process whose mark begins so, until none is left. Returns those that there were."""
    seen: set[ProcessId] = set()
    deadline = time.monotonic() + PATIENCE_S
    while (found := marked_with(f"{MARK}={beginning}", proc)) and time.monotonic() < deadline:
        for identity in found:
            kill_exactly(identity)
        seen.update(found)
    return seen


def end_leftovers(state: State) -> int:
    """End what a stack left whose supervisor is gone. Returns how many processes that were."""
    recorded = {each.identity for each in state.components.values() if each.identity and is_alive(each.identity)}
    for identity in recorded:
        kill_exactly(identity)
    return len(recorded | sweep(mark(state.stack)))
