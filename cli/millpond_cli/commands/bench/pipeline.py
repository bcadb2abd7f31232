"""`./millpond bench pipeline`"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond_cli import stack
from millpond_cli.bench.pipeline.hops import PARTITIONS, RECORDS, Contest, tracing_us
from millpond_cli.bench.pipeline.latency import BULK_PER_S, Probe
from millpond_cli.bench.rounds import LEAST_ROUNDS, Series, ratio
from millpond_cli.commands.options import PortBase
from millpond_cli.environment import environment
from millpond_cli.figures import percentile, show_targets, target, writable, write
from millpond_cli.here import settings_of
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.stack import COMPONENTS, Stack
from millpond_core.processor import ProcessorSettings
from millpond_core.telemetry import start_tracing

HOPS = ("router", "cache hop", "batcher hop")

Latencies = Mapping[str, Sequence[Sequence[float]]]
"""What flows beside → rounds → milliseconds of each request."""


def pipeline(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each contender is measured so often, in turn.")] = LEAST_ROUNDS,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """How fast the hops are beside bare loops on the same Kafka, and how long one realtime request takes.

    With models that answer at once. Sets up what is missing, and starts a Kafka and then a stack of its own.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
        throughput = throughputs(place, port_base, Path(folder) / "hops", rounds)
        latency = latencies(place, port_base, Path(folder) / "latency", rounds)
    targets = targets_of(throughput, latency)
    console = Console()
    console.print(table(throughput))
    show_targets(console, targets)
    write(
        json_file,
        {
            "rounds": rounds,
            "records_per_run": RECORDS,
            "records_per_transaction": ProcessorSettings().transaction_records,
            "partitions": PARTITIONS,
            "records_per_s": {name: series.as_json() for name, series in throughput.items()},
            "tracing_us_per_record": {
                name: tracing_us(throughput[name], throughput[f"{name}, traced"]).as_json() for name in HOPS
            },
            "bulk_requests_per_s": BULK_PER_S,
            "realtime_ms": {name: quantiles(rounds) for name, rounds in latency.items()},
            "targets": targets,
            "environment": environment(place),
        },
    )


def throughputs(place: Home, port_base: int, folder: Path, rounds: int) -> Mapping[str, Series]:
    """Records per second. Traces go to a Jaeger, where one was built."""
    only = {"kafka", "jaeger"} if place.jaeger_binary.exists() else {"kafka"}
    folder.mkdir(parents=True)
    with Stack(place.root, port_base, only=only, run=folder) as running:
        contest = Contest(running.addresses, folder)
        try:
            return contest.measure(rounds)
        finally:
            contest.close()


def latencies(place: Home, port_base: int, folder: Path, rounds: int) -> Latencies:
    """Of a whole stack whose models answer at once, without tracing."""
    only = {component.name for component in COMPONENTS} - {"jaeger"}
    with Stack(place.root, port_base, only=only, model="echo", run=folder) as running:
        settings = settings_of(running.addresses)
        tracing = start_tracing("millpond-cli", otlp_endpoint=None, traces_file=None)
        try:
            probe = Probe(settings, tracing)
            probe.warm()
            measured: dict[str, list[Sequence[float]]] = {"alone": [], "beside bulk": []}
            for number in range(1, rounds + 1):
                measured["alone"].append(probe.latencies())
                measured["beside bulk"].append(probe.latencies_beside_bulk())
                latest = ", ".join(f"{name} {percentile(each[-1], 0.5):.0f} ms" for name, each in measured.items())
                print(f"round {number} of {rounds}: {latest}", flush=True)
            return measured
        finally:
            tracing.close()


def quantiles(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """In milliseconds, over all requests of all rounds; and how far the rounds' medians lie apart."""
    every = list(chain.from_iterable(rounds))
    return {
        "requests": len(every),
        "p50": round(percentile(every, 0.5), 1),
        "p99": round(percentile(every, 0.99), 1),
        "spread": round(Series(tuple(percentile(each, 0.5) for each in rounds)).spread, 3),
    }


def targets_of(throughput: Mapping[str, Series], latency: Latencies) -> list[dict[str, Any]]:
    share = {name: ratio(throughput[name], throughput["bare loop"]).median for name in ("cache hop", "batcher hop")}
    figures = [target(f"{name} of bare loop", round(value, 3), "share", 0.5, "higher") for name, value in share.items()]
    of_faust = ratio(throughput["router"], throughput["bare Faust, noack_take"]).median
    figures.append(target("router of bare Faust", round(of_faust, 3), "share", 0.8, "higher"))
    for name in HOPS:
        spent = tracing_us(throughput[name], throughput[f"{name}, traced"]).median
        figures.append(target(f"tracing, {name}", round(spent, 1), "µs", 100, "lower"))
    for name, rounds in latency.items():
        found = quantiles(rounds)
        figures.append(target(f"realtime p50, {name}", found["p50"], "ms", 60, "lower"))
        figures.append(target(f"realtime p99, {name}", found["p99"], "ms", 150, "lower"))
    return figures


def table(throughput: Mapping[str, Series]) -> Table:
    shown = Table("contender", "records/s", "spread", "of bare loop", "of Faust", box=None, pad_edge=False)
    for name, series in throughput.items():
        of_loop = ratio(series, throughput["bare loop"]).median
        of_faust = ratio(series, throughput["bare Faust, noack_take"]).median
        shown.add_row(name, f"{series.median:,.0f}", f"{series.spread:.0%}", f"{of_loop:.2f}", f"{of_faust:.2f}")
    return shown
