"""The stack that the demo runs on: the one that is up, or its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from millpond_cli import stack
from millpond_cli.errors import CommandError
from millpond_cli.setup.home import Home
from millpond_cli.setup.progress import Report, print_line, shown
from millpond_cli.setup.set_up import ready
from millpond_cli.stack import Addresses, Stack


@dataclass(frozen=True)
class RunningStack:
    """ready_s: seconds that it took to start; None for one that was up. stays: whether it is up afterwards."""

    addresses: Addresses
    ready_s: float | None
    stays: bool


@contextmanager
def running_stack(place: Home, port_base: int, config: Path | None, *, keep: bool) -> Generator[RunningStack]:
    """What is missing is set up. A stack that is begun here is gone when the block is left, unless it is to be kept.

    Raises StackError, SetupError or CommandError.
    """
    if up := stack.running(place.root):
        if config is not None:
            raise CommandError("--config: a stack is up already and has its own; ./millpond down stops it")
        print("using the stack that is up", flush=True)
        yield RunningStack(up, None, stays=True)
    elif keep:
        with shown() as report:
            with ready(place, report):
                pass
            started = time.monotonic()
            addresses = stack.up(place.root, port_base, config=config, report=report)
        yield _begun(addresses, started, stays=True)
    else:
        reports = _Reports()
        with ExitStack() as inside:
            with reports.on_display():
                is_coming = inside.enter_context(ready(place, reports))
                started = time.monotonic()
                begun = Stack(place.root, port_base, config=config, jaeger_is_coming=is_coming, report=reports)
                inside.enter_context(begun)
            yield _begun(begun.addresses, started, stays=False)
            print("stopping the stack", flush=True)


def _begun(addresses: Addresses, started: float, *, stays: bool) -> RunningStack:
    ready_s = round(time.monotonic() - started, 1)
    print(f"stack ready in {ready_s} s", flush=True)
    return RunningStack(addresses, ready_s, stays)


class _Reports:
    """What is reported: on the display while the stack starts, in lines of their own afterwards."""

    def __init__(self) -> None:
        self._to: Report = print_line

    def __call__(self, name: str, text: str) -> None:
        self._to(name, text)

    @contextmanager
    def on_display(self) -> Generator[None]:
        with shown() as report:
            self._to = report
            try:
                yield
            finally:
                self._to = print_line
