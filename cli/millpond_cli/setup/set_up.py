"""Makes what is missing, what can be made at the same time at the same time."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from millpond_cli.setup import prerequisites
from millpond_cli.setup.commands import Commands
from millpond_cli.setup.home import Home
from millpond_cli.setup.jaeger import JaegerBuild
from millpond_cli.setup.lock import alone
from millpond_cli.setup.pieces import FOR_STACK, Piece
from millpond_cli.setup.progress import Report


def set_up(home: Home, pieces: Sequence[Piece], report: Report) -> None:
    """Make the pieces that are missing. With nothing missing it takes milliseconds.

    report: called with (piece, line), from several threads. Raises Missing before anything is begun, SetupError after.
    """
    if not check(home, pieces):
        return
    with alone(home.root / "setup.lock", lambda: report("setup", "another millpond is setting up: waiting for it")):
        _make([piece for piece in pieces if not piece.is_ready(home)], home, report)


def check(home: Home, pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The pieces that are missing. Raises Missing where a program is, that these are made or run with."""
    missing = [piece for piece in pieces if not piece.is_ready(home)]
    prerequisites.check(
        [
            *(program for piece in pieces for program in piece.programs_to_run),
            *(program for piece in missing for program in piece.programs_to_make),
        ]
    )
    return missing


@contextmanager
def ready(
    home: Home, report: Report, pieces: Sequence[Piece] = FOR_STACK, *, wait_for_jaeger: bool = False
) -> Generator[bool]:
    """Set up the pieces; Jaeger's build begins first and goes on inside the block.

    Yields whether Jaeger is still to come: `Stack(..., jaeger_is_coming=...)`. Raises Missing or SetupError.
    """
    check(home, pieces)
    with JaegerBuild(home, report) as build:
        set_up(home, pieces, report)
        if wait_for_jaeger and build.is_coming:
            report("jaeger", "everything else is set up: waiting for its build")
            build.wait()
        yield build.is_coming


def _make(pieces: Sequence[Piece], home: Home, report: Report) -> None:
    commands = Commands()
    made: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(max(1, len(pieces)), thread_name_prefix="setup") as pool:
        try:
            for piece in pieces:
                made[piece.name] = pool.submit(_make_one, piece, home, commands, report, dict(made))
            wait(made.values(), return_when=FIRST_EXCEPTION)
            for future in made.values():
                if future.done():
                    future.result()
        finally:
            # Reached with work left only where something failed or the person interrupted.
            commands.end()


def _make_one(piece: Piece, home: Home, commands: Commands, report: Report, earlier: dict[str, Future[None]]) -> None:
    """earlier: the pieces submitted before this one; what it needs is among them, or was there already."""
    for need in piece.needs:
        if need in earlier:
            earlier[need].result()
    started = time.monotonic()
    piece.make(home, commands, lambda line: report(piece.name, line))
    report(piece.name, f"set up in {time.monotonic() - started:.0f} s")
