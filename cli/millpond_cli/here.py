"""The stack that runs in this home, as the commands see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from millpond_cli.configuration import configuration
from millpond_cli.errors import CommandError
from millpond_cli.setup.home import home
from millpond_cli.stack import Addresses, State, running_state
from millpond_core.settings import FILE_VARIABLE, STAND_IN, Settings, load

S = TypeVar("S", bound=Settings)


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


def configuration_here(given: Path | None = None) -> Path:
    """The file that the services of the stack here were told to read; where none is up, those of one would read."""
    state = running_state(home().run)
    return configuration(given or (_told(state.addresses) if state else None))


def check_settings(config: Path | None) -> None:
    """Name what is wrong with the services' settings before anything is started: exit status 2."""
    settings = settings_by(Settings, config)
    large = settings.model_of_role("frontier")
    if os.environ.get("MILLPOND_PROVIDER_BASE_URL") and (large.provider_model or large.name) == STAND_IN:
        raise CommandError("MILLPOND_PROVIDER_BASE_URL names a provider: MILLPOND_PROVIDER_MODEL must name its model")


def is_stand_in(addresses: Addresses, settings: Settings) -> bool:
    """Whether the large model is the stack's own stand-in."""
    return addresses.provider == addresses.stand_in and settings.model_of_role("frontier").base_url is None


def settings_of(addresses: Addresses) -> Settings:
    """What the services are told: models, prices, how Kafka is reached. Exit status 2 for a wrong setting."""
    where = {
        "kafka_bootstrap": addresses.kafka,
        "triton": addresses.triton,
        "otlp_endpoint": addresses.otlp,
        "traces_file": Path(addresses.traces_file) if addresses.traces_file else None,
    }
    return settings_by(Settings, _told(addresses)).model_copy(update=where)


def settings_by(kind: type[S], config: Path | None) -> S:
    """Those that a stack would be started with, whatever runs. config: in place of the file in the environment.

    Exit status 2 for a wrong one.
    """
    os.environ[FILE_VARIABLE] = str(configuration(config))
    return load(kind, "millpond")


def settings_here(kind: type[S], config: Path | None = None) -> S:
    """Those of the stack here; where none is up, of one that would be started. config: another file than these read.

    Exit status 2 for a wrong one.
    """
    return settings_by(kind, configuration_here(config))


def _told(addresses: Addresses) -> Path | None:
    """The file that the stack's services were told to read."""
    return Path(addresses.config) if addresses.config else None
