"""`./millpond bench batching`"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from millpond_cli.bench.report import show_targets, target, writable, write
from millpond_cli.bench.rounds import Series, percentile, ratio
from millpond_cli.commands.options import PortBase
from millpond_cli.demo import docstrings
from millpond_cli.environment import environment
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.simulation.engine_profile import EngineProfile, fitted

TOKENS = 48
"""Of each answer: what the engine was first measured with."""

MIXED = (8, 16, 32, 64)
"""Of the answers of unlike length."""

ONE, BATCHER, CONTINUOUS = "one at a time", "batcher", "continuous"
WINDOWS = {f"windows of {rows}": rows for rows in (8, 32, 64)}
MIXED_FIRST, MIXED_BY_LENGTH = "unlike lengths, first come", "unlike lengths, by length"
MIXED_ROWS = 32


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


def batching(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="Write what the engine's step takes there.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each contender is measured so often, in turn.")] = 3,
    requests: Annotated[int, typer.Option(min=64, help="In each measurement; a quarter of it one at a time.")] = 128,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Tokens per second of the small model: one row at a time, in windows, continuously, and through the batcher.

    The same model, real texts and greedy answers of one length. Sets up what is missing, and starts a Kafka, a Triton
    and a batcher of its own.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    measured: dict[str, Measured] = {}
    runs: list[tuple[int, int, int, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        pond(place.root, port_base, Path(folder), {"MILLPOND_BATCHER__STANDARD_WAIT_S": "0.2"}) as own,
    ):
        contest = Contest(own, requests)
        contest.warm()
        for number in range(1, rounds + 1):
            for name, measure in contest.contenders().items():
                ran = measure()
                each = measured.setdefault(name, Measured())
                each.tokens_per_s.append(ran.tokens_per_s)
                each.latencies_s += ran.latencies_s
                if name != BATCHER:
                    each.padding.append(ran.padding)
                if name == ONE or name in WINDOWS:
                    rows = WINDOWS.get(name, 1)
                    windows = len(ran.completions) / rows
                    runs.append((rows, round(ran.prompt_tokens / windows), TOKENS, ran.seconds / windows))
                print(f"round {number} of {rounds}: {name}: {ran.tokens_per_s:,.0f} tokens/s", flush=True)
        differing = contest.differing()
        figures = environment(place, own.addresses.triton_http)
        rows = own.model.max_rows
    found = engine_profile_of(runs, rows)
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
            "tokens_each": TOKENS,
            "contenders": {name: each.as_json() for name, each in measured.items()},
            "answers_that_differ": round(differing, 4),
            "engine_profile": found.model_dump(),
            "targets": targets,
            "environment": figures,
        },
    )


class Contest:
    def __init__(self, own: Pond, requests: int) -> None:
        self._pond = own
        self._requests = requests
        library = docstrings.texts(docstrings.standard_library())
        self._texts = [text.docstring for text in itertools.islice(library, requests)]
        self._number = itertools.count()

    def contenders(self) -> Mapping[str, Callable[[], Ran]]:
        return {
            ONE: lambda: self._direct(self._asks(self._requests // 4), 1),
            **{name: self._in_windows(rows) for name, rows in WINDOWS.items()},
            CONTINUOUS: lambda: self._direct(self._asks(self._requests), self._requests),
            BATCHER: self._through_the_batcher,
            MIXED_FIRST: lambda: self._direct(self._mixed(), MIXED_ROWS),
            MIXED_BY_LENGTH: lambda: self._direct(
                sorted(self._mixed(), key=lambda ask: bucket_of(ask.tokens)), MIXED_ROWS
            ),
        }

    def warm(self) -> None:
        self._direct(self._asks(16), 16)

    def differing(self) -> float:
        """Share of greedy answers that are other words in a full batch than alone."""
        asks = self._asks(16)
        alone, together = self._direct(asks, 1), self._direct(asks, len(asks))
        pairs = zip(alone.completions, together.completions, strict=True)
        return sum(one.text != other.text for one, other in pairs) / len(asks)

    def _asks(self, count: int, tokens: Sequence[int] = (TOKENS,)) -> list[Ask]:
        # A number in front, so that no prompt's beginning is in the engine's cache already.
        return [
            Ask(f"{next(self._number)}. Summarise in one sentence: {text}", length)
            for text, length in zip(itertools.islice(itertools.cycle(self._texts), count), itertools.cycle(tokens))
        ]

    def _mixed(self) -> list[Ask]:
        return self._asks(self._requests, MIXED)

    def _in_windows(self, rows: int) -> Callable[[], Ran]:
        return lambda: self._direct(self._asks(self._requests), rows)

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


def engine_profile_of(runs: Sequence[tuple[int, int, int, float]], rows: int) -> EngineProfile:
    step_s, row_step_s, prompt_token_s = fitted(runs)
    return EngineProfile(
        name="measured by ./millpond bench batching",
        step_s=max(step_s, 1e-6),
        row_step_s=row_step_s,
        prompt_token_s=prompt_token_s,
        rows=rows,
        urgent_rows=16,
    )


def targets_of(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    one, batcher, continuous = (measured[name].series for name in (ONE, BATCHER, CONTINUOUS))
    windows = measured["windows of 64"].series
    best = max(ratio(measured[name].series, one).median for name in (*WINDOWS, CONTINUOUS, BATCHER))
    by_length = ratio(measured[MIXED_BY_LENGTH].series, measured[MIXED_FIRST].series).median
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
        target("windows by length, beside first come", round(by_length, 2), "times", 1.3, "higher"),
    ]


def table(measured: Mapping[str, Measured]) -> Table:
    shown_table = Table("", "tokens/s", "half within", "95 in 100 within", "padding", box=None, pad_edge=False)
    for name, each in measured.items():
        figures = each.as_json()
        padding = f"{figures['padding']:.0%}" if figures["padding"] is not None else ""
        median = f"{figures['tokens_per_s']['median']:,}"
        shown_table.add_row(name, median, f"{figures['p50_s']} s", f"{figures['p95_s']} s", padding)
    return shown_table
