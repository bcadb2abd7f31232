"""Shows a person how the work goes: a changing picture on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millpond_cli.demo.job import Progress

LINE_EVERY_S = 5.0
"""Where there is no terminal."""

Show = Callable[[Progress], None]


@contextmanager
def watched(console: Console) -> Generator[Show]:
    """Inside, each progress that is shown replaces the one before; what else the console prints goes above it."""
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda progress: live.update(picture(progress), refresh=True)


def picture(progress: Progress) -> Group:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=progress.requests, completed=progress.done, width=40),
        f"{progress.done} of {progress.requests} answered, {progress.elapsed_s:.0f} s",
    )
    stages = Table.grid(padding=(0, 2))
    for label, value in _stages(progress):
        stages.add_row(Text(label, style="dim"), value)
    return Group(bar, stages)


def _stages(progress: Progress) -> list[tuple[str, str]]:
    held, answered = progress.in_flight, progress.answered
    return [
        ("waiting", f"{progress.waiting}"),
        ("router", f"{held.get('router', 0)} being read"),
        ("cache", f"{held.get('cache', 0)} being looked up, {answered['cache']} answered"),
        ("small model", f"{held.get('batcher', 0)} gathered or running, {answered['small']} answered"),
        ("large model", f"{held.get('frontier', 0)} in hand, {answered['frontier']} answered"),
        ("errors", f"{progress.errors}"),
        ("speed", f"{progress.tokens_per_s:.0f} tokens written per second"),
        ("money", f"${progress.usd:.4f}; the large model, synchronously: ${progress.synchronous_usd:.4f}"),
    ]


def line(progress: Progress) -> str:
    answered = progress.answered
    return (
        f"{progress.elapsed_s:4.0f} s  {progress.done} of {progress.requests} answered: cache {answered['cache']}, "
        f"small {answered['small']}, large {answered['frontier']}, errors {progress.errors}; "
        f"{progress.waiting} waiting, {progress.in_flight.get('batcher', 0)} in batches; "
        f"{progress.tokens_per_s:.0f} tokens/s; ${progress.usd:.4f} instead of ${progress.synchronous_usd:.4f}"
    )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next or progress.done == progress.requests:
            self._next = now + LINE_EVERY_S
            self._console.print(line(progress), highlight=False, soft_wrap=True)
