"""What a component of the local stack is made of. Pure: nothing here touches a process, a file or the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter

HOST = "127.0.0.1"
"""Where every component listens."""

REPLICAS = 10
"""Replicas of a service at most: each of its ports has this many numbers to itself."""


@dataclass(frozen=True)
class Answers:
    """Ready when GET `path` on the port of that name answers 200."""

    port: str
    path: str


@dataclass(frozen=True)
class SpeaksKafka:
    """Ready when the port of that name answers Kafka's ApiVersions request."""

    port: str


@dataclass(frozen=True)
class Finishes:
    """Ready when the process has ended with code 0: a step, not a server."""


Check = Answers | SpeaksKafka | Finishes


@dataclass(frozen=True)
class Component:
    """One process of the local stack.

    command, environment: templates over the names that `Values` lists.
    ports: name of the port → offset from the port base; a replica adds its number.
    needs: components that must be ready before this one starts, where they are part of the stack at all.
    uses: components that must still be there while this one stops; at start it waits for them itself.
    module: skipped, and said so, where this Python module is not installed.
    chances: starts that may end before the component ever was ready.
    ready_s: seconds from start to ready after which something is wrong: a hang's bound, not an expectation.
    stop_s: seconds between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    ports: Mapping[str, int]
    ready: Check
    needs: Sequence[str] = ()
    uses: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    module: str | None = None
    chances: int = 1
    ready_s: float = 180.0
    stop_s: float = 10.0
    is_service: bool = False


@dataclass(frozen=True)
class Instance:
    """A component as it is to be started: every template filled in. name: `batcher`, the second replica `batcher-1`.

    needs, uses: names of instances of this stack.
    """

    name: str
    component: Component
    replica: int
    ports: Mapping[str, int]
    command: Sequence[str]
    environment: Mapping[str, str]
    needs: Sequence[str]
    uses: Sequence[str]


class DescriptionError(ValueError):
    """The description contradicts itself, or names something that is not there."""


def instance_name(component: str, replica: int) -> str:
    return component if replica == 0 else f"{component}-{replica}"


def ports_of(component: Component, port_base: int, replica: int = 0) -> dict[str, int]:
    return {name: port_base + offset + replica for name, offset in component.ports.items()}


def select(components: Sequence[Component], only: frozenset[str] | None) -> tuple[Component, ...]:
    """The components named by only, in the description's order; all of them for None. Raises DescriptionError."""
    if only is None:
        return tuple(components)
    if unknown := only - {component.name for component in components}:
        known = ", ".join(component.name for component in components)
        raise DescriptionError(f"no component {', '.join(sorted(unknown))}: there are {known}")
    return tuple(component for component in components if component.name in only)


def check_replicas(components: Sequence[Component], replicas: Mapping[str, int]) -> None:
    """replicas: service → how many. Raises DescriptionError."""
    services = {component.name for component in components if component.is_service}
    for name, count in replicas.items():
        if name not in services:
            raise DescriptionError(f"{name} is not a service that can have replicas")
        if not 1 <= count <= REPLICAS:
            raise DescriptionError(f"{name} can have 1 to {REPLICAS} replicas, not {count}")


def instances(
    components: Sequence[Component],
    port_base: int,
    values: Mapping[str, str],
    replicas: Mapping[str, int],
) -> tuple[Instance, ...]:
    """Fill in every template.

    values: what the templates may name beside `replica`, `instance`, `state` and the ports, which are
    `{kafka.broker}` for the first replica's port of any selected or unselected component and `{own.http}` for the
    instance's own; given here as `kafka.broker` → "19092".
    replicas: service → how many, 1 where absent. Raises DescriptionError.
    """
    selected = {component.name for component in components}
    check_replicas(components, replicas)

    def those_of(names: Sequence[str]) -> tuple[str, ...]:
        present = (name for name in names if name in selected)
        return tuple(instance_name(name, n) for name in present for n in range(replicas.get(name, 1)))

    found: list[Instance] = []
    for component in components:
        for replica in range(replicas.get(component.name, 1)):
            ports = ports_of(component, port_base, replica)
            name = instance_name(component.name, replica)
            own = {
                **values,
                **{f"own.{port}": str(number) for port, number in ports.items()},
                "replica": str(replica),
                "instance": name,
                "state": f"{values['data']}/{name}",
            }
            found.append(
                Instance(
                    name=name,
                    component=component,
                    replica=replica,
                    ports=ports,
                    command=tuple(fill(part, own) for part in component.command),
                    environment={key: fill(value, own) for key, value in component.environment.items()},
                    needs=those_of(component.needs),
                    uses=those_of(component.uses),
                )
            )
    return tuple(found)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every `{name}` replaced; a name may have dots. Raises DescriptionError for an unknown one."""
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        if name not in values:
            raise DescriptionError(f"{template!r} names {name!r}, which the stack does not have")
        parts.append(values[name])
    return "".join(parts)
