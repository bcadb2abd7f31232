"""Runs the programs that set things up, so that none outlives an interrupted start.

Imports nothing but the standard library and its like beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from millpond_cli.setup.errors import SetupError
from millpond_cli.setup.leash import leashed

TAIL_LINES = 15
"""Of a failed program's output that is shown."""


@dataclass(frozen=True)
class Finished:
    """output: both of its outputs, in their order."""

    code: int
    output: str

    @property
    def tail(self) -> str:
        """The last lines, indented, to be shown."""
        return "\n".join(f"    {line}" for line in self.output.strip().splitlines()[-TAIL_LINES:])

    @property
    def last_line(self) -> str:
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"


class Commands:
    """Used from several threads."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._are_over = False

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        each_line: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run it to its end, whatever its code. Raises SetupError where `end` ended it, or came before.

        It dies with the thread that calls this; one that is not there ends with code 1 and says so.
        """
        with self._lock:
            if self._are_over:
                raise SetupError("interrupted")
            process = subprocess.Popen(
                [*leashed(), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # A group of its own, so that what it starts ends with it.
                start_new_session=True,
            )
            self._running.add(process)
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if each_line is not None:
                each_line(line.rstrip())
        code = process.wait()
        with self._lock:
            self._running.discard(process)
            if self._are_over:
                raise SetupError("interrupted")
        return Finished(code, "".join(lines))

    def check(self) -> None:
        """For work in this process, between two steps of it. Raises SetupError after `end`."""
        if self._are_over:
            raise SetupError("interrupted")

    def end(self) -> None:
        """End all that runs; nothing more is started."""
        with self._lock:
            self._are_over = True
            for process in self._running:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
