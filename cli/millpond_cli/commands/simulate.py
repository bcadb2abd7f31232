"""`./millpond simulate`"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond_batcher.settings import BatcherSettings, policy_of
from millpond_cli.commands.options import Config, existing
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import show_targets, target, writable, write
from millpond_cli.here import settings_by
from millpond_cli.setup.home import home
from millpond_cli.simulation import engine_profile, trace
from millpond_cli.simulation.simulation import Known, Outcome, Simulation, TooLong, figures, learned, least_replicas

MOST_REPLICAS = 4096
"""Beyond it no answer is looked for."""

BEGINS = datetime(2026, 1, 1, 9, tzinfo=UTC).timestamp()
"""A morning, for plans that hold work until the night."""


def simulate(  # noqa: PLR0917
    profile: Annotated[
        Path, typer.Option("--engine-profile", metavar="FILE", help="What an engine's step takes, as JSON.")
    ],
    trace_file: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Requests, one JSON object a line.")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="TIER=PER_S", help="Instead of a trace: requests that come at random; may be repeated."),
    ] = None,
    duration_s: Annotated[float, typer.Option(min=1, help="Seconds of arrivals, with --rate.")] = 600,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of a usual request, with --rate.")] = 200,
    output_tokens: Annotated[int, typer.Option(min=1, help="Of a usual answer, with --rate.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the requests that are made up.")] = 1,
    replicas: Annotated[int, typer.Option(min=1, max=MOST_REPLICAS, help="Engines.")] = 1,
    find: Annotated[
        float | None,
        typer.Option("--target", min=0, max=1, help="Also look for the replicas that keep this share of deadlines."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    config: Config = None,
) -> None:
    """What the batcher's plan would make of these requests on engines that are only computed: deadlines, latency, cost.

    The plan and its settings are the batcher's own. An engine's profile is measured by `./millpond bench batching`.
    """
    existing(config)
    writable(json_file)
    if (trace_file is None) == (not rate):
        raise CommandError("simulate: name either --trace FILE or --rate TIER=PER_SECOND")
    of_engine = engine_profile.read(profile)
    arrivals = (
        trace.read(trace_file)
        if trace_file
        else trace.made_up(trace.rates(rate or ()), duration_s, prompt_tokens, output_tokens, seed)
    )
    if not arrivals:
        raise CommandError("simulate: no request arrives in that time: raise --rate or --duration-s")
    settings = settings_by(BatcherSettings, config)
    small = settings.model_of_role("small").model_copy(update={"max_rows": of_engine.all_rows})
    policy = policy_of(settings, settings.batcher, small)

    def outcome_of(count: int, known: Known) -> Outcome:
        return Simulation(arrivals, of_engine, count, policy, BEGINS, known, small.max_batch_tokens).run()

    try:
        known = learned(arrivals, of_engine, policy, settings.batcher.queue_target_s)
        outcome = outcome_of(replicas, known)
    except TooLong as failure:
        raise CommandError(f"simulate: {failure}") from None
    found = figures(outcome, replicas, of_engine)
    console = Console()
    console.print(table(found))
    targets: list[dict[str, Any]] = []
    if find is not None:
        least = least_replicas(lambda count: holds(outcome_of(count, known), arrivals, find), MOST_REPLICAS)
        if least is None:
            raise CommandError(f"simulate: even {MOST_REPLICAS} engines do not keep {find:.2%} of the deadlines", 1)
        found["replicas_needed"] = least
        keep = "1 engine keeps" if least == 1 else f"{least} engines keep"
        console.print(f"{keep} {find:.2%} of the deadlines of every tier")
        targets = [
            target(f"deadlines kept, {word}", each["hit_rate"], "share", find, "higher")
            for word, each in found["tiers"].items()
        ]
        show_targets(console, targets)
    write(json_file, {**found, "targets": targets, "environment": environment(home())})


def holds(outcome: Outcome, arrivals: Sequence[trace.Arrival], share: float) -> bool:
    """Whether every tier keeps this share of its deadlines."""
    words = {arrival.tier for arrival in arrivals}
    return all(
        len(outcome.latencies_s[word]) and outcome.hits[word] >= share * len(outcome.latencies_s[word])
        for word in words
    )


def table(found: dict[str, Any]) -> Table:
    shown = Table("tier", "requests", "deadlines kept", "half within", "99 in 100 within", box=None, pad_edge=False)
    for word, each in found["tiers"].items():
        row = (f"{each['requests']:,}", f"{each['hit_rate']:.2%}", f"{each['p50_s']:,} s", f"{each['p99_s']:,} s")
        shown.add_row(word, *row)
    engines = "1 engine" if found["replicas"] == 1 else f"{found['replicas']} engines"
    shown.caption = (
        f"{engines} busy {found['utilisation']:.0%} of {found['wall_s']:,} s, "
        f"{found['tokens_per_s']:,} tokens/s, ${found['usd']:,}"
    )
    return shown
