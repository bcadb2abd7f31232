"""`./millpond status`"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from millpond_cli import metrics_page
from millpond_cli.commands.show import shown_addresses
from millpond_cli.here import settings_of, state_here
from millpond_cli.kafka_lag import Lag, lags
from millpond_cli.stack import COMPONENTS, ComponentState
from millpond_cli.stack.description import Finishes
from millpond_cli.stack.probe import is_ready

WELL = ("ready", "finished")
"""States in which a component is as it should be."""


NOT_READY = "not ready"
"""Of a component that was ready, and does not say so when it is asked now."""


def status() -> None:
    """Show what runs and how far it is behind. Exit status 1 where a component or a whole model is not ready."""
    state = state_here()
    components = asyncio.run(as_they_answer(state.components))
    console = Console()
    print(f"{state.phase}; supervisor pid {state.supervisor.pid}, port base {state.port_base}\n")
    console.print(components_table(components, time.time()))
    print(f"\n{shown_addresses(state.addresses)}\n")
    models = models_that_answer(state.addresses.http)
    if models:
        console.print(models_table(models), "", sep="\n")
    try:
        found = lags(settings_of(state.addresses))
        console.print(lag_table(found) if found else "nothing was read from Kafka yet")
    except KafkaException as failure:
        print(f"Kafka does not answer: {failure.args[0].str()}")
    silent = any(not any(processes.values()) for processes in models.values())
    if silent or any(component.state not in WELL for component in components.values()):
        raise SystemExit(1)


async def as_they_answer(components: Mapping[str, ComponentState]) -> Mapping[str, ComponentState]:
    """The components with what those that became ready say at this moment: one may hang, or have lost another."""
    checks = {component.name: component.ready for component in COMPONENTS}

    async def asked(name: str, each: ComponentState) -> ComponentState:
        check = checks[re.sub(r"-\d+$", "", name)]
        if each.state != "ready" or isinstance(check, Finishes) or await is_ready(check, each.ports[check.port]):
            return each
        return replace(each, state=NOT_READY)

    answers = await asyncio.gather(*(asked(name, each) for name, each in components.items()))
    return dict(zip(components, answers, strict=True))


def components_table(components: Mapping[str, ComponentState], now: float) -> Table:
    table = Table("component", "state", "for", "pid", "restarts", box=None, pad_edge=False, header_style="bold")
    for name, each in components.items():
        pid = str(each.identity.pid) if each.identity else "-"
        table.add_row(name, each.state, duration(now - each.since), pid, str(each.restarts))
    return table


def models_that_answer(services: Mapping[str, str]) -> Mapping[str, Mapping[str, bool]]:
    """By model and its process in Triton, whether it answers the batcher. services: by name, where their pages are."""
    batchers = [f"{url}/metrics" for name, url in services.items() if name.partition("-")[0] == "batcher"]
    found = metrics_page.read(batchers).by("millpond_model_answers", "model", "process")
    models: dict[str, dict[str, bool]] = defaultdict(dict)
    for (model, process), answers in sorted(found.items()):
        models[model][process] = answers > 0
    return models


def models_table(models: Mapping[str, Mapping[str, bool]]) -> Table:
    table = Table("model", "in Triton", "", box=None, pad_edge=False, header_style="bold")
    for model, processes in models.items():
        for process, answers in processes.items():
            table.add_row(model, process, "answers" if answers else "silent")
    return table


def lag_table(found: Sequence[Lag]) -> Table:
    table = Table("consumer group", "topic", "waiting", box=None, pad_edge=False, header_style="bold")
    for lag in found:
        table.add_row(lag.group, lag.topic, str(lag.records))
    return table


def duration(seconds: float) -> str:
    """ "42 s", "3 min", "5 h": as exact as a glance needs."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
