"""Decides what a stack consists of. Pure: what it depends on is looked up by stack.py and handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.description import HOST, Component, Instance, instances, ports_of, select

STAND_IN_KEY = "stand-in"
"""OpenAI's client refuses an empty key; the stand-in reads none."""


@dataclass(frozen=True)
class Facts:
    """What a plan depends on.

    places: template name → path, see components.py. config: the services' configuration file.
    environment: variables of the person's, over which only the stack's own go.
    jaeger: whether its program is there, is being built, or neither. traces_file: where spans go meanwhile.
    missing_modules: of those that components name, the Python modules that are not installed.
    """

    places: Mapping[str, str]
    config: str
    environment: Mapping[str, str]
    jaeger: Literal["there", "coming", "missing"]
    traces_file: str
    missing_modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """late: instances that start when their program is there. notes: (component, why it is left out or waits)."""

    instances: Sequence[Instance]
    addresses: Addresses
    late: frozenset[str] = frozenset()
    notes: Sequence[tuple[str, str]] = field(default_factory=tuple)


def plan(
    components: Sequence[Component],
    facts: Facts,
    port_base: int,
    only: frozenset[str] | None,
    replicas: Mapping[str, int],
) -> Plan:
    """only: exactly these components, all for None. Raises DescriptionError for what can't be."""
    notes: list[tuple[str, str]] = []
    chosen: list[Component] = []
    selected = select(components, only)
    for component in selected:
        if reason := _reason_to_leave_out(component, facts):
            notes.append((component.name, f"left out: {reason}"))
        else:
            chosen.append(component)
    runs_jaeger = any(component.name == "jaeger" for component in chosen)
    wants_jaeger = any(component.name == "jaeger" for component in selected)
    is_late = runs_jaeger and facts.jaeger == "coming"
    if is_late:
        notes.append(("jaeger", f"not built yet: traces go to {facts.traces_file}, and to Jaeger once it is there"))

    port = {f"{each.name}.{name}": str(number) for each in components for name, number in _ports(each, port_base)}
    collector = facts.environment.get("MILLPOND_OTLP_ENDPOINT")
    otlp = collector or (f"http://{HOST}:{port['jaeger.otlp']}" if runs_jaeger and not is_late else None)
    traces_file = facts.traces_file if wants_jaeger and otlp is None else None
    stand_in = f"http://{HOST}:{port['stand-in.http']}/v1"
    provider = facts.environment.get("MILLPOND_PROVIDER_BASE_URL") or stand_in
    values = {
        **port,
        **facts.places,
        "config": facts.config,
        "provider_url": provider,
        "provider_key": facts.environment.get("MILLPOND_PROVIDER_API_KEY") or STAND_IN_KEY,
        "otlp": otlp or "",
        "traces_file": traces_file or "",
    }
    planned = instances(chosen, port_base, values, replicas)
    where = Addresses(
        kafka=f"{HOST}:{port['kafka.broker']}",
        triton=f"{HOST}:{port['triton.grpc']}",
        triton_http=f"http://{HOST}:{port['triton.http']}",
        triton_metrics=f"http://{HOST}:{port['triton.metrics']}/metrics",
        milvus=f"http://{HOST}:{port['milvus.grpc']}",
        stand_in=stand_in,
        provider=provider,
        frontier_grpc=f"{HOST}:{port['frontier.grpc']}",
        cache_grpc=f"{HOST}:{port['cache.grpc']}",
        otlp=otlp,
        jaeger_query=f"http://{HOST}:{port['jaeger.query']}" if runs_jaeger else None,
        jaeger_otlp_http=f"http://{HOST}:{port['jaeger.otlp_http']}" if runs_jaeger else None,
        traces_file=traces_file,
        http={each.name: f"http://{HOST}:{each.ports['http']}" for each in planned if each.component.is_service},
        config=facts.config,
    )
    return Plan(planned, where, frozenset({"jaeger"} if is_late else ()), tuple(notes))


def _ports(component: Component, port_base: int) -> Sequence[tuple[str, int]]:
    return tuple(ports_of(component, port_base).items())


def _reason_to_leave_out(component: Component, facts: Facts) -> str | None:
    """Why this component does not run here, or None."""
    if component.name == "stand-in" and (url := facts.environment.get("MILLPOND_PROVIDER_BASE_URL")):
        return f"the provider is {url}"
    if component.name == "jaeger":
        if collector := facts.environment.get("MILLPOND_OTLP_ENDPOINT"):
            return f"traces go to {collector}"
        if facts.jaeger == "missing":
            return f"it was not built; traces go to {facts.traces_file}"
    if component.module in facts.missing_modules:
        return f"the Python module {component.module} is not installed"
    return None
