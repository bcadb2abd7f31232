"""`./millpond bench router`"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from millpond_cli import metrics_page, stack
from millpond_cli.bench import cpu_time
from millpond_cli.bench.rounds import interleaved, ratio
from millpond_cli.commands.eval.router import table
from millpond_cli.commands.options import Config, PortBase, existing
from millpond_cli.configuration import configuration
from millpond_cli.demo import docstrings
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import writable, write
from millpond_cli.here import settings_of
from millpond_cli.offline_models import embed
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.pieces import KAFKA, MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report, shown
from millpond_cli.setup.set_up import set_up
from millpond_core import topics
from millpond_core.settings import FILE_VARIABLE, Settings

TEXTS = 1000
"""Different ones: first lines of the standard library's docstrings, as long as a question."""

DECISION_P99_MS, REQUESTS_PER_S = 1.0, 400.0

ROUNDS, REQUESTS, WARM_UP = 5, 1000, 200
"""Requests of one round, and before the first: two seconds or more of the router's."""

SOURCE, TARGET = "bench.source", "bench.target"


def router(
    rounds: Annotated[int, typer.Option(min=1, help="Each contender is measured so often, in turn.")] = ROUNDS,
    alone: Annotated[bool, typer.Option("--alone", help="Only a decision, in this process; starts nothing.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
    config: Config = None,
) -> None:
    """Measure a decision alone, and requests through Kafka, the embedder and the router, beside a bare Faust agent.

    Starts Kafka, Triton and the router for itself.
    """
    existing(config)
    writable(json_file)
    os.environ[FILE_VARIABLE] = str(configuration(config))
    place = home()
    written = islice(docstrings.texts(docstrings.standard_library()), TEXTS)
    texts = [text.docstring.strip().splitlines()[0] for text in written]
    with shown() as report:
        # What a request costs here is what its length costs the embedder.
        figures: dict[str, Any] = {
            "mean_characters": round(fmean(map(len, texts)), 1),
            "decision": decisions(place, texts, report),
        }
        if not alone:
            set_up(place, (KAFKA, MODELS, MODEL_FILES), report)
            figures |= through_kafka(place, texts, rounds, port_base=port_base, config=config, report=report)
    figures |= {"targets": targets(figures), "environment": environment(place)}
    Console().print(table(figures), highlight=False)
    write(json_file, figures)


def decisions(place: Home, texts: Sequence[str], report: Report) -> dict[str, Any]:
    """Raises CommandError."""
    vectors = embed(place, texts, report)
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
        told, values = Path(folder) / "texts.json", Path(folder) / "vectors.npy"
        told.write_text(json.dumps(list(texts)))
        np.save(values, vectors.values)
        command = [sys.executable, "-m", "millpond_cli.bench.decisions", str(told), str(values), vectors.version]
        # As the router's own process has it: numpy reads it when it is first imported.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise CommandError(f"no decision could be measured: {ended.stderr.strip().splitlines()[-1:]}", 1)
    return json.loads(ended.stdout)


def through_kafka(
    place: Home, texts: Sequence[str], rounds: int, *, port_base: int, config: Path | None, report: Report
) -> dict[str, Any]:
    """Requests a second: through the router, through a bare Faust agent, and what the embedder does alone."""
    from millpond_cli.bench.throughput import Passage, make_topics

    only = {"kafka", "topics", "triton", "router"}
    # No two are the same: what is asked again is embedded only once. The contenders have what is equally long.
    asked = (f"{text} ({number})" for number, text in enumerate(cycle(texts)))
    with ExitStack() as open_:
        # Topics of its own each time, and nothing of a stack that a person keeps.
        run = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="millpond-bench-")))
        started = stack.Stack(place.root, port_base, only=only, config=config, report=report, run=run)
        running = open_.enter_context(started)
        settings = settings_of(running.addresses)
        make_topics(settings, SOURCE, TARGET)
        open_.enter_context(_bare_faust(settings))
        routed = open_.enter_context(closing(Passage(settings, topics.REQUESTS, topics.ROUTED)))
        bare = open_.enter_context(closing(Passage(settings, SOURCE, TARGET)))
        for each in (routed, bare):
            each.rate(_bodies(islice(asked, WARM_UP)))
        embedded = Embedded(running.addresses.triton_metrics)
        busy: list[dict[str, float]] = []

        def through_the_router() -> Sequence[float]:
            processes = {**running.processes, os.getpid(): "bench"}
            before = cpu_time.read(processes)
            with embedded:
                rate = routed.rate(_bodies(islice(asked, REQUESTS)))
            busy.append(cpu_time.cores(before, cpu_time.read(processes)))
            return [rate]

        measured = interleaved(
            {
                "embedder alone": lambda: [asyncio.run(_embedder_rate(settings, list(islice(asked, REQUESTS))))],
                "router": through_the_router,
                "bare Faust": lambda: [bare.rate(_bodies(islice(asked, REQUESTS)))],
            },
            rounds,
            lambda line: report("bench", line),
        )
    return {
        "requests_per_s": {name: series.as_json() for name, series in measured.items()},
        "router_of_embedder_alone": round(ratio(measured["router"], measured["embedder alone"]).median, 3),
        "embedder_rows_per_batch": round(embedded.rows / embedded.calls, 1) if embedded.calls else None,
        "embedded_share": round(embedded.rows / (rounds * REQUESTS), 3),
        "cores": {name: round(median(each.get(name, 0.0) for each in busy), 3) for name in busy[0]},
    }


class Embedded:
    """Counts what the embedder does while it is entered. rows, calls: so far."""

    def __init__(self, page: str) -> None:
        self._page = page
        self.rows = self.calls = 0.0

    def __enter__(self) -> None:
        self._before = metrics_page.read([self._page])

    def __exit__(self, *_: object) -> None:
        since = metrics_page.read([self._page]) - self._before
        self.rows += since.total("nv_inference_count_total", model="embedder")
        self.calls += since.total("nv_inference_exec_count_total", model="embedder")


def _bodies(texts: Iterable[str]) -> list[bytes]:
    return [
        json.dumps({"messages": [{"role": "user", "content": text}], "tier": "overnight"}).encode() for text in texts
    ]


async def _embedder_rate(settings: Settings, texts: Sequence[str]) -> float:
    """Texts a second, asked for 32 at a time, with two calls under way."""
    from millpond_core.embedder import Embedder

    embedder = Embedder(settings.triton, 60)
    parts = [texts[first : first + 32] for first in range(0, len(texts), 32)]
    await embedder.embed(parts[0])
    turns = asyncio.Semaphore(2)

    async def ask(part: Sequence[str]) -> None:
        async with turns:
            await embedder.embed(part)

    began = time.monotonic()
    try:
        await asyncio.gather(*map(ask, parts))
    finally:
        await embedder.close()
    return len(texts) / (time.monotonic() - began)


@contextmanager
def _bare_faust(settings: Settings) -> Generator[None]:
    where = ("--bootstrap", settings.kafka_bootstrap, "--source", SOURCE, "--target", TARGET)
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond_cli.bench.bare_faust", *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = [
        {
            "name": "decision beyond the embedding, p99",
            "value": figures["decision"]["alone"]["p99_ms"],
            "unit": "ms",
            "bound": DECISION_P99_MS,
            "better": "lower",
        }
    ]
    if "requests_per_s" in figures:
        found.append(
            {
                "name": "requests end to end",
                "value": figures["requests_per_s"]["router"]["median"],
                "unit": "1/s",
                "bound": REQUESTS_PER_S,
                "better": "higher",
            }
        )
    return found
