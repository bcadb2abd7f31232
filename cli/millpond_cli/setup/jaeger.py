"""Jaeger, built by Go out of pinned modules, in the background.

A cold build takes about five minutes of both cores, which is longer than everything else together, so nothing waits
for it: it runs at the lowest priority beside the rest of the set-up and beside the first stack. That stack's services
write their spans to a file; once Jaeger is built the stack starts it and hands the file over (stack/trace_file.py).
Where there is no Go the file is all there is. Interrupted, the build goes on at the next start where Go's own cache
left it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.leash import leashed
from millpond_cli.setup.prerequisites import go_is_there
from millpond_cli.setup.progress import Report
from millpond_cli.setup.stamp import digest, is_current, write

SOURCE = REPOSITORY / "stack" / "jaeger"
PACKAGE = "github.com/jaegertracing/jaeger/cmd/jaeger"

BUILD = ("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w")

NICE = 19
"""The lowest priority: the first stack needs the cores more."""


def _made_from() -> str:
    return digest(" ".join(BUILD), [SOURCE / "go.mod", SOURCE / "go.sum"])


def is_ready(home: Home) -> bool:
    return is_current(home.jaeger_binary.with_name("stamp"), _made_from())


class JaegerBuild:
    """`with JaegerBuild(home, report) as build:` begins it where it is needed, and ends it when the block is left."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home = home
        self._report = report
        self._folder = home.jaeger_binary.parent
        self._log = self._folder / "build.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: TextIO | None = None
        self._watch: threading.Thread | None = None
        self._is_ended = False
        self._is_elsewhere = False

    @property
    def is_coming(self) -> bool:
        """Whether it is not there yet but is being built, here or by another command."""
        if is_ready(self._home):
            return False
        return self._is_elsewhere or (self._watch is not None and self._watch.is_alive())

    def __enter__(self) -> Self:
        if is_ready(self._home):
            return self
        if not go_is_there():
            self._report("jaeger", "no Go 1.21 or newer here to build it with: traces go to a file")
            return self
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            self._is_elsewhere = True
            return self
        self._lock = lock
        self._report("jaeger", "building it in the background, once; about five minutes")
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_ended = True
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._watch is not None:
            self._watch.join()
        if self._lock is not None:
            self._lock.close()

    def wait(self) -> bool:
        """Wait until the build has ended, wherever it runs. Returns whether Jaeger is there."""
        if self._watch is not None:
            self._watch.join()
        elif self._is_elsewhere:
            with (self._folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
        return is_ready(self._home)

    def _begin(self) -> None:
        partial = self._home.jaeger_binary.with_name("jaeger.partial")
        nice = ["nice", "-n", str(NICE)] if shutil.which("nice") else []
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*leashed(), *nice, *BUILD, "-o", str(partial), PACKAGE],
                cwd=SOURCE,
                env={**os.environ, "CGO_ENABLED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watch = threading.Thread(
            target=self._finish, args=(self._process, partial), name="jaeger-build", daemon=True
        )
        self._watch.start()

    def _finish(self, process: subprocess.Popen[bytes], partial: Path) -> None:
        started = time.monotonic()
        code = process.wait()
        if self._is_ended:
            return
        if code != 0:
            self._report("jaeger", f"could not be built, so traces go to a file; see {self._log}")
            return
        partial.replace(self._home.jaeger_binary)
        write(self._home.jaeger_binary.with_name("stamp"), _made_from())
        self._report("jaeger", f"built in {time.monotonic() - started:.0f} s")
