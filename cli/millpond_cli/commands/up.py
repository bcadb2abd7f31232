"""`./millpond up`"""

from __future__ import annotations

from typing import Annotated

import typer

from millpond_cli import stack
from millpond_cli.commands.options import Config, Model, PortBase, existing, known
from millpond_cli.commands.show import shown_addresses
from millpond_cli.errors import CommandError
from millpond_cli.here import check_settings
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.stack import COMPONENTS
from millpond_cli.stack.description import DescriptionError, check_replicas


def up(
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
    config: Config = None,
    model: Model = "real",
    replicas: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=COUNT", help="Run a service several times; may be repeated.")
    ] = None,
) -> None:
    """Set up what is missing, start the stack in the background, and say where everything is."""
    place = home()
    counts = dict(map(replica_count, replicas or ()))
    try:
        check_replicas(COMPONENTS, counts)
    except DescriptionError as failure:
        raise CommandError(f"--replicas: {failure}") from None
    existing(config)
    known(model)
    check_settings(config)
    with shown() as report:
        # The supervisor goes on with Jaeger's build where leaving this ends it.
        with ready(place, report):
            pass
        addresses = stack.up(place.root, port_base, replicas=counts, config=config, model=model, report=report)
    print(shown_addresses(addresses))


def replica_count(text: str) -> tuple[str, int]:
    """("batcher", 2) out of "batcher=2". Raises CommandError."""
    name, _, count = text.partition("=")
    if not count.isdecimal():
        raise CommandError(f"--replicas {text}: must read SERVICE=COUNT, as in batcher=2")
    return name, int(count)
