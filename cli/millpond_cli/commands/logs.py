"""`./millpond logs SERVICE`"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from millpond_cli.errors import CommandError
from millpond_cli.setup.home import home

LOOK_EVERY_S = 0.2
"""Seconds between two looks at a log that is followed."""


def logs(
    service: Annotated[str, typer.Argument(help="A component, as ./millpond status names it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written; Ctrl-C ends it.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last ones.")] = 100,
) -> None:
    """Show a component's log: JSON lines from the services, whatever they write from the others."""
    path = log_of(home().run / "logs", service)
    with path.open("rb") as log:
        for line in deque(log, lines):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        place = _Place(os.fstat(log.fileno()).st_ino, log.tell())
    while follow:
        place = _follow(path, place)
        time.sleep(LOOK_EVERY_S)


@dataclass(frozen=True)
class _Place:
    """How far a file was shown. number: the file's own, of another file where the next start put the log aside."""

    number: int
    size: int


def _follow(path: Path, place: _Place) -> _Place:
    """Show what is new. A log that was begun anew is shown from its beginning; one that is not there yet, later."""
    try:
        with path.open("rb") as log:
            now = os.fstat(log.fileno())
            if now.st_ino == place.number and now.st_size >= place.size:
                log.seek(place.size)
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.flush()
            return _Place(now.st_ino, log.tell())
    except FileNotFoundError:
        return place


def log_of(folder: Path, service: str) -> Path:
    """Raises CommandError with the names that there are."""
    there = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if service not in there:
        known = f"there are those of {', '.join(there)}" if there else "nothing has run here yet: ./millpond up"
        raise CommandError(f"no log of {service}: {known}")
    return there[service]
