"""Shows a person what is going on: one changing line for each piece on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

Report = Callable[[str, str], None]
"""Called with (piece or component, one line or more), from any thread."""


def print_line(name: str, text: str) -> None:
    # One write: lines of several threads do not mix.
    sys.stdout.write(f"{name}: {text}\n")
    sys.stdout.flush()


@contextmanager
def shown() -> Generator[Report]:
    """What is reported inside is shown; on a terminal the last line of each name stays when the block is left."""
    if not sys.stdout.isatty():
        yield print_line
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    lock = threading.Lock()
    rows: dict[str, tuple[float, str]] = {}
    started = time.monotonic()

    def rendered() -> Group:
        return Group(*(Text(f"{at:6.1f} s  {name:12} {text}", no_wrap=True) for name, (at, text) in rows.items()))

    with Live(rendered(), auto_refresh=False) as live:

        def report(name: str, text: str) -> None:
            with lock:
                first, *further = text.splitlines() or [""]
                rows[name] = (time.monotonic() - started, first)
                for line in further:
                    live.console.print(line, markup=False, highlight=False)
                live.update(rendered(), refresh=True)

        yield report
