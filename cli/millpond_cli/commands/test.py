"""`./millpond test`"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import typer

from millpond_cli.setup.home import REPOSITORY, Home, home
from millpond_cli.setup.pieces import FOR_TESTS
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready

UNIT = "tests/unit"

WHOLE = ("tests/chaos", "tests/e2e")

STACKS = 2
"""Test files with real components that run at a time: some 3 GB of memory each."""


def test(context: typer.Context) -> None:
    """Set up what testing needs, then check the style, the types and all tests.

    Arguments go to pytest, and then only the tests run: ./millpond test -k explain, ./millpond test tests/unit
    """
    place = home()
    with shown() as report, ready(place, report, FOR_TESTS, wait_for_jaeger=True):
        pass
    if context.args:
        print("tests only, since arguments were given: without any, style and types are checked too", flush=True)
    checks = [pytest(context.args)] if context.args else [*static_checks(), *suite()]
    raise SystemExit(max(run(check, environment(place)) for check in checks))


def static_checks() -> list[list[str]]:
    return [
        [program("ruff"), "check", "."],
        [program("ruff"), "format", "--check", "."],
        [program("basedpyright"), "--pythonpath", sys.executable],
    ]


def suite() -> list[list[str]]:
    """What is pure takes every core. What has real components waits more than it computes, so that two files run beside
    each other, each with a stack of its own; but what loads a whole stack, or harms it, has the machine for itself.
    """
    beside = ["-n", str(STACKS), "--dist", "loadfile"]
    return [
        pytest([UNIT, "-n", "auto"]),
        pytest(["tests", *(f"--ignore={each}" for each in (UNIT, *WHOLE)), *beside]),
        pytest([*WHOLE]),
    ]


def pytest(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *arguments]


def program(name: str) -> str:
    """One of the workspace environment's own, whatever is on PATH."""
    return str(Path(sys.executable).with_name(name))


def environment(place: Home) -> Mapping[str, str]:
    """Where tests find what was set up."""
    return {
        **os.environ,
        "MILLPOND_HOME": str(place.root),
        "MILLPOND_MODELS_PYTHON": str(place.models_python),
        "MILLPOND_MODELS_TORCH_PYTHON": str(place.torch_python),
        "MILLPOND_ASSETS": str(place.assets),
    }


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The command's exit code, 128 and more where a signal ended it. Raises SystemExit where one came to us."""
    print(f"\n$ {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    told: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        told.append(signum)
        # Ctrl-C goes to the whole group by itself, and a test run that gets it twice does not clean up.
        if signum != signal.SIGINT:
            with suppress(ProcessLookupError):
                process.send_signal(signum)

    before = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        code = process.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if told:
        raise SystemExit(128 + told[0])
    return code if code >= 0 else 128 - code
