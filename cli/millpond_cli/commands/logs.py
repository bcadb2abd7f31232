"""`./millpond logs SERVICE`"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
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
        while follow:
            if path.stat().st_size < log.tell():
                # Begun anew by the next start.
                log.seek(0)
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY_S)


def log_of(folder: Path, service: str) -> Path:
    """Raises CommandError with the names that there are."""
    there = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if service not in there:
        known = f"there are those of {', '.join(there)}" if there else "nothing has run here yet: ./millpond up"
        raise CommandError(f"no log of {service}: {known}")
    return there[service]
