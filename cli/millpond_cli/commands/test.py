"""`./millpond test`"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
        raise SystemExit(run(pytest(context.args), environment(place)))
    codes = [run(check, environment(place)) for check in static_checks()]
    with beside(pure(), environment(place)) as rest:
        codes += [run(check, environment(place)) for check in with_real_components()]
        codes.append(rest())
    raise SystemExit(max(codes))


def static_checks() -> list[list[str]]:
    return [
        [program("ruff"), "check", "."],
        [program("ruff"), "format", "--check", "."],
        [program("basedpyright"), "--pythonpath", sys.executable],
    ]


def pure() -> list[str]:
    """Computes on every core and waits for nothing."""
    return pytest([UNIT, "-n", "auto"])


def with_real_components() -> list[list[str]]:
    """These wait more than they compute, so that two files run beside each other, each with a stack of its own; but
    what loads a whole stack, or harms it, has no other beside it.
    """
    others = [f"--ignore={each}" for each in (UNIT, *WHOLE)]
    return [pytest(["tests", *others, "-n", str(STACKS), "--dist", "loadfile"]), pytest([*WHOLE])]


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


@contextmanager
def beside(command: Sequence[str], environment: Mapping[str, str]) -> Generator[Callable[[], int]]:
    """Run it in what the rest leaves of the processors. The function waits for it, prints what it said, and returns its
    exit code, 128 and more where a signal ended it.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command], cwd=REPOSITORY, env=environment, stdout=said, stderr=subprocess.STDOUT
        )

        def ended() -> int:
            code = process.wait()
            said.seek(0)
            print(f"\n{_shown(command)}\n{said.read().decode(errors='replace')}", flush=True)
            return _status(code)

        try:
            yield ended
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _shown(command: Sequence[str]) -> str:
    return f"$ {' '.join([Path(command[0]).name, *command[1:]])}"


def _status(code: int) -> int:
    """As a shell tells it."""
    return code if code >= 0 else 128 - code


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The command's exit code, 128 and more where a signal ended it. Raises SystemExit where one came to us."""
    print(f"\n{_shown(command)}", flush=True)
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
    return _status(code)
