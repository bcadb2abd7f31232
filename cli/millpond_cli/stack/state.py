"""The file in which a running stack says who it is: state.json in its run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.identity import ProcessId

MARK = "MILLPOND_STACK"
"""Environment variable of every component, its `mark`. What carries it belongs to that stack."""

VERSION = 2

Phase = Literal["starting", "ready", "stopping"]


def mark(stack: str, instance: str = "") -> str:
    """What every mark of the stack, or of one of its instances, begins with. `batcher` is not `batcher-1`."""
    return f"{stack}/{instance}/" if instance else f"{stack}/"


@dataclass(frozen=True)
class ComponentState:
    """state: waiting, starting, ready, finished, died, halted or stopped. since: seconds since 1970.

    identity: None while no process runs. restarts: how often it was started again after it died.
    """

    state: str
    since: float
    restarts: int
    identity: ProcessId | None
    ports: Mapping[str, int]
    log: str


@dataclass(frozen=True)
class State:
    """stack: this start's own id, the first half of every component's mark."""

    stack: str
    supervisor: ProcessId
    phase: Phase
    port_base: int
    addresses: Addresses
    components: Mapping[str, ComponentState]


def write(path: Path, state: State) -> None:
    """The file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"version": VERSION, **asdict(state)}, indent=1))
    partial.replace(path)


def read(path: Path) -> State | None:
    """None where there is none, or one that another version of the stack wrote."""
    try:
        given = json.loads(path.read_text())
        if given.pop("version") != VERSION:
            return None
        components = {name: _component(each) for name, each in given.pop("components").items()}
        supervisor = ProcessId(**given.pop("supervisor"))
        where = Addresses(**given.pop("addresses"))
        return State(supervisor=supervisor, addresses=where, components=components, **given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _component(given: dict[str, Any]) -> ComponentState:
    identity = given.pop("identity")
    return ComponentState(identity=ProcessId(**identity) if identity else None, **given)
