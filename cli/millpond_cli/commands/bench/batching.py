"""`./millpond bench batching`"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond.v1.request_pb2 import TIER_STANDARD
from millpond_batcher.plan import bucket_of
from millpond_cli import stack
from millpond_cli.bench.batcher import direct
from millpond_cli.bench.batcher.direct import Ask, Ran
from millpond_cli.bench.batcher.pond import Pond, pond
from millpond_cli.bench.rounds import Series, ratio
from millpond_cli.commands.options import PortBase
from millpond_cli.demo import docstrings
from millpond_cli.demo.docstrings import Text
from millpond_cli.environment import environment
from millpond_cli.figures import percentile, show_targets, target, writable, write
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.simulation.fit import Run, fitted

MIXED = (8, 16, 32, 64, 128, 256)
"""Tokens of the answers of unlike length."""

SYSTEM_PROMPTS = 4
"""Of the requests of unlike length: each has one of these before it."""

ONE, BATCHER, CONTINUOUS = "one at a time", "batcher", "continuous"
WINDOWS = {f"windows of {rows}": rows for rows in (8, 32, 64)}
MIXED_FIRST, MIXED_GROUPED = "unlike, first come", "unlike, by length and prefix"
MIXED_ROWS = 32
"""In a window, and of each length: ordered by length, no window has two."""

LONG_ONE, LONG_WINDOWS = "long prompts, one at a time", "long prompts, windows of 64"
LONG_TOKENS = 48
"""Of their answers. A batch writes tokens faster and reads prompts hardly so: there it gains less."""

PROBES: Mapping[str, tuple[int, int | None]] = {
    ONE: (1, None),
    **{name: (rows, None) for name, rows in WINDOWS.items()},
    LONG_ONE: (1, LONG_TOKENS),
    LONG_WINDOWS: (64, LONG_TOKENS),
}
"""What the engine's profile is fitted to: rows, and tokens of each answer where they are not all runs'.

Without long prompts, those of a window are as many as its rows, and what reads them cannot be told from what writes."""


@dataclass
class Measured:
    """Of one contender, by rounds."""

    tokens_per_s: list[float] = field(default_factory=list[float])
    latencies_s: list[float] = field(default_factory=list[float])
    padding: list[float] = field(default_factory=list[float])

    @property
    def series(self) -> Series:
        return Series(tuple(self.tokens_per_s))

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens_per_s": self.series.as_json(),
            "p50_s": round(percentile(self.latencies_s, 0.5), 3),
            "p95_s": round(percentile(self.latencies_s, 0.95), 3),
            "padding": round(sum(self.padding) / len(self.padding), 3) if self.padding else None,
        }


def batching(  # noqa: PLR0917
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="Write what the engine's step takes there.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each contender is measured so often, in turn.")] = 3,
    requests: Annotated[
        int, typer.Option(min=64, help="In a measurement of many rows; a sixteenth of it one at a time.")
    ] = 128,
    tokens: Annotated[int, typer.Option(min=2, max=1024, help="Of each answer.")] = 128,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Tokens per second of the small model: one row at a time, in windows, continuously, and through the batcher.

    The same model and greedy answers of one length to short questions, but where it says otherwise. Sets up what is
    missing, and starts a Kafka, a Triton and a batcher of its own.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    measured: dict[str, Measured] = {}
    runs: list[Run] = []
    prompt_tokens = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        pond(place.root, port_base, Path(folder), {"MILLPOND_BATCHER__STANDARD_WAIT_S": "0.2"}) as own,
    ):
        contest = Contest(own, requests, tokens)
        contest.warm()
        for number in range(1, rounds + 1):
            for name, measure in contest.contenders().items():
                ran = measure()
                each = measured.setdefault(name, Measured())
                each.tokens_per_s.append(ran.tokens_per_s)
                each.latencies_s += ran.latencies_s
                if name != BATCHER:
                    each.padding.append(ran.padding)
                if name == CONTINUOUS:
                    prompt_tokens = ran.prompt_tokens / len(ran.completions)
                if name in PROBES:
                    rows, written = PROBES[name]
                    prompts = [each.input_tokens for each in ran.completions]
                    windows = [prompts[first : first + rows] for first in range(0, len(prompts), rows)]
                    runs.append(Run(windows, written or tokens, ran.seconds))
                print(f"round {number} of {rounds}: {name}: {ran.tokens_per_s:,.0f} tokens/s", flush=True)
        differing = contest.differing()
        figures = environment(place, own.addresses.triton_http)
        rows, urgent_rows = own.rows, own.urgent_rows
    found = fitted("measured by ./millpond bench batching", runs, rows, urgent_rows)
    if profile is not None:
        profile.write_text(json.dumps(found.model_dump(), indent=2) + "\n")
    targets = targets_of(measured)
    console = Console()
    console.print(table(measured))
    console.print(f"{differing:.1%} of greedy answers differ between one at a time and all at once")
    show_targets(console, targets)
    write(
        json_file,
        {
            "rounds": rounds,
            "requests": requests,
            "tokens_each": tokens,
            "prompt_tokens_each": round(prompt_tokens, 1),
            "contenders": {name: each.as_json() for name, each in measured.items()},
            "answers_that_differ": round(differing, 4),
            "engine_profile": found.model_dump(),
            "targets": targets,
            "environment": figures,
        },
    )


class Contest:
    def __init__(self, own: Pond, requests: int, tokens: int) -> None:
        self._pond = own
        self._requests = requests
        self._tokens = tokens
        library = docstrings.texts(docstrings.standard_library())
        self._texts = list(itertools.islice(library, requests))
        self._number = itertools.count()

    def contenders(self) -> Mapping[str, Callable[[], Ran]]:
        return {
            ONE: lambda: self._direct(self._asks(self._requests // 16), 1),
            **{name: self._in_windows(rows) for name, rows in WINDOWS.items()},
            CONTINUOUS: lambda: self._direct(self._asks(self._requests), self._requests),
            BATCHER: self._through_the_batcher,
            MIXED_FIRST: lambda: self._direct(self._mixed(), MIXED_ROWS),
            MIXED_GROUPED: lambda: self._direct(
                sorted(self._mixed(), key=lambda ask: (bucket_of(ask.tokens), ask.system)), MIXED_ROWS
            ),
            LONG_ONE: lambda: self._direct(self._long_asks(self._requests // 16), 1),
            LONG_WINDOWS: lambda: self._direct(self._long_asks(64), 64),
        }

    def warm(self) -> None:
        self._direct(self._asks(16), 16)

    def differing(self) -> float:
        """Share of greedy answers that are other words in a full batch than alone."""
        asks = self._asks(16)
        alone, together = self._direct(asks, 1), self._direct(asks, len(asks))
        pairs = zip(alone.completions, together.completions, strict=True)
        return sum(one.text != other.text for one, other in pairs) / len(asks)

    def _asks(self, count: int) -> list[Ask]:
        return [Ask(f"{self._mark()} What does {text.name} do?", self._tokens) for text in self._some(count)]

    def _long_asks(self, count: int) -> list[Ask]:
        return [
            Ask(f"{self._mark()} Summarise in one sentence: {text.docstring}", LONG_TOKENS)
            for text in self._some(count)
        ]

    def _mixed(self) -> list[Ask]:
        """In no order, but the same one every time."""
        chance = random.Random(1)  # noqa: S311
        systems = [f"{self._mark()} {text.docstring}" for text in self._some(SYSTEM_PROMPTS)]
        lengths = mixed_lengths()
        asks = self._asks(len(lengths))
        return [
            replace(ask, tokens=tokens, system=chance.choice(systems))
            for ask, tokens in zip(asks, lengths, strict=True)
        ]

    def _some(self, count: int) -> Iterator[Text]:
        return itertools.islice(itertools.cycle(self._texts), count)

    def _mark(self) -> str:
        """What stands in front, so that no prompt's beginning is in the engine's cache already."""
        return f"{next(self._number)}."

    def _in_windows(self, rows: int) -> Callable[[], Ran]:
        # Small windows take long; any number of them says the same.
        count = self._requests if rows == 64 else max(self._requests // 4, rows)
        return lambda: self._direct(self._asks(count), rows)

    def _direct(self, asks: Sequence[Ask], window: int) -> Ran:
        return direct.run(self._pond.addresses.triton, self._pond.model, asks, window)

    def _through_the_batcher(self) -> Ran:
        asks = self._asks(self._requests)
        began = time.monotonic()
        requests = [self._pond.routed(ask.text, TIER_STANDARD, ask.tokens, due_s=3000) for ask in asks]
        self._pond.send(requests)
        ids = [routed.request.id for routed in requests]
        results = self._pond.await_all(ids)
        seconds = time.monotonic() - began
        completions = [
            direct.Completion(
                each.output.text, each.output.finish_reason, each.usage.input_tokens, each.usage.output_tokens
            )
            for each in results
        ]
        return Ran(completions, [self._pond.results[each][1] - began for each in ids], seconds, 0.0)


def mixed_lengths() -> list[int]:
    """Of answers: a window of each, in no order, but the same one every time."""
    return random.Random(1).sample(MIXED, len(MIXED) * MIXED_ROWS, counts=[MIXED_ROWS] * len(MIXED))  # noqa: S311


def targets_of(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    one, batcher, continuous = (measured[name].series for name in (ONE, BATCHER, CONTINUOUS))
    windows = measured["windows of 64"].series
    best = max(ratio(measured[name].series, one).median for name in (*WINDOWS, CONTINUOUS, BATCHER))
    grouped = ratio(measured[MIXED_GROUPED].series, measured[MIXED_FIRST].series).median
    return [
        target("windows of 64, beside one at a time", round(ratio(windows, one).median, 2), "times", 8, "higher"),
        target("the best setting, beside one at a time", round(best, 2), "times", 10, "higher"),
        target(
            "batcher, beside the engine driven directly",
            round(ratio(batcher, continuous).median, 3),
            "share",
            0.9,
            "higher",
        ),
        target("windows by length and prefix, beside first come", round(grouped, 2), "times", 1.3, "higher"),
    ]


def table(measured: Mapping[str, Measured]) -> Table:
    shown_table = Table("", "tokens/s", "half within", "95 in 100 within", "padding", box=None, pad_edge=False)
    for name, each in measured.items():
        figures = each.as_json()
        padding = f"{figures['padding']:.0%}" if figures["padding"] is not None else ""
        median = f"{figures['tokens_per_s']['median']:,}"
        shown_table.add_row(name, median, f"{figures['p50_s']} s", f"{figures['p95_s']} s", padding)
    return shown_table
