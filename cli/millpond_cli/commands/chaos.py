"""`./millpond chaos`"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from millpond_cli.chaos.report import broken, figures, words
from millpond_cli.chaos.run import Plan, run_chaos
from millpond_cli.commands.options import Model, known
from millpond_cli.errors import CommandError
from millpond_cli.figures import writable, write
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import print_line, shown
from millpond_cli.setup.set_up import ready
from millpond_cli.stack import clean_up, free_port_base, running_state


def chaos(  # noqa: PLR0917
    requests: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 1000,
    kills: Annotated[int, typer.Option(min=0, metavar="K", help="Faults, spread over the time of the load.")] = 10,
    seed: Annotated[int, typer.Option(help="Decides what is sent, and which fault comes when.")] = 7,
    model: Model = "echo",
    replicas: Annotated[int, typer.Option(min=1, max=2, help="Of each service.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
) -> None:
    """Kill everything while requests flow, and count what is lost or comes twice.

    Exit status 1 where a target is missed. It has a stack of its own, on ports that are free; what that wrote stays in
    .millpond/chaos for a look afterwards.
    """
    known(model)
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    run = place.root / "chaos"
    if running_state(run) is not None:
        raise CommandError(f"a chaos run is under way in {run}: wait for its end, or use another MILLPOND_HOME")
    # A run that was killed may have left processes, of which only its state tells.
    clean_up(run)
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    plan = Plan(requests, kills, seed, model, replicas)
    outcome = run_chaos(place, run, free_port_base(), plan, lambda line: print_line("chaos", line))
    written = {**figures(outcome.found, outcome.course), "environment": outcome.environment}
    write(json_file, written)
    print(words(outcome.found, outcome.course), flush=True)
    if missed := broken(written):
        raise CommandError(f"{'; '.join(missed)}. Logs and data are in {run}", 1)
