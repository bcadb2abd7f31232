"""What the `millpond` script does once a Python is found: the environment, then the command line in it.

Imports nothing but the standard library and its like beside it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Environment, make, workspace
from millpond_cli.setup.errors import SetupError
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.lock import alone


def say(text: str) -> None:
    # Not on stdout: that is the command's, and may be JSON.
    print(f"millpond: {text}", file=sys.stderr, flush=True)


def run(arguments: Sequence[str]) -> NoReturn:
    """Become the command line. Ends with one line on stderr where it can't be set up."""
    place = home()
    environment = workspace(place)
    try:
        if not environment.is_ready:
            _make(place, environment)
    except SetupError as failure:
        say(str(failure))
        sys.exit(failure.exit_code)
    except OSError as failure:
        say(f"{place.root} cannot be used, MILLPOND_HOME names another: {failure}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted; the next start goes on")
        sys.exit(130)
    python = str(environment.python)
    os.execve(  # noqa: S606
        python, [python, "-m", "millpond_cli", *arguments], {**os.environ, "MILLPOND_HOME": str(place.root)}
    )


def _make(place: Home, environment: Environment) -> None:
    with alone(place.root / "env.lock", lambda: say("another millpond is setting up: waiting for it")):
        if environment.is_ready:
            return
        started = time.monotonic()
        say(f"making the environment in {environment.folder}, once; it takes a minute or two")
        commands = Commands()
        try:
            make(environment, None, commands, say)
        finally:
            commands.end()
        say(f"environment ready in {time.monotonic() - started:.0f} s")
