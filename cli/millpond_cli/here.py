"""The stack that runs in this home, as the commands see it."""

from __future__ import annotations

import os
from pathlib import Path

from millpond_cli.errors import CommandError
from millpond_cli.setup.home import REPOSITORY, home
from millpond_cli.stack import Addresses, State, running_state
from millpond_core.settings import FILE_VARIABLE, Settings, load

CONFIGURATION = REPOSITORY / "config" / "millpond.yaml"
"""What the stack's services read where nobody names another."""


def state_here() -> State:
    """Raises CommandError where no stack is up."""
    place = home()
    state = running_state(place.run)
    if state is None:
        raise CommandError(f"no stack is up in {place.run}: ./millpond up starts one")
    return state


def addresses_here() -> Addresses:
    """Raises CommandError where no stack is up, or is not ready yet."""
    state = state_here()
    if state.phase != "ready":
        raise CommandError(f"the stack is {state.phase}: try again when ./millpond status says ready")
    return state.addresses


def configuration(given: Path | None = None) -> Path:
    """The file that the stack's services read."""
    if given is not None:
        return given.absolute()
    inherited = os.environ.get(FILE_VARIABLE)
    return Path(inherited).absolute() if inherited else CONFIGURATION


def settings_of(addresses: Addresses, config: Path | None = None) -> Settings:
    """What the services are told: models, prices, how Kafka is reached. Exit status 2 for a wrong setting."""
    os.environ[FILE_VARIABLE] = str(configuration(config))
    where = {
        "kafka_bootstrap": addresses.kafka,
        "triton": addresses.triton,
        "otlp_endpoint": addresses.otlp,
        "traces_file": Path(addresses.traces_file) if addresses.traces_file else None,
    }
    return load(Settings, "millpond").model_copy(update=where)
