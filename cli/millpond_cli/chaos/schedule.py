"""Which fault comes when. Pure: the seed alone decides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

SERVICES = ("router", "cache", "batcher", "frontier")

GAP_S = (2.0, 6.0)
"""Seconds between two faults: short enough that one falls into the recovery from another."""

ZOMBIE_S = (8.0, 12.0)
"""Seconds that a replica sleeps: longer than its group waits for it (6 s), so that others have its work by then."""

HANG_S = (2.0, 6.0)
"""Seconds that a server answers nothing while its connections stay open."""


class Fault(StrEnum):
    KILL = "kill"
    """SIGKILL; the supervisor starts it again."""
    RESTART = "restart"
    """SIGTERM, and a start once it has ended."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT after a while."""


@dataclass(frozen=True)
class Step:
    """after_s: since the step before. instance: `batcher`, or `batcher-1`. for_s: how long a freeze lasts."""

    after_s: float
    instance: str
    fault: Fault
    for_s: float = 0.0

    @property
    def victim(self) -> str:
        """What the report calls it: the component, and the fault where it is no kill."""
        component = self.instance.partition("-")[0]
        if self.fault is Fault.KILL:
            return component
        if self.fault is Fault.FREEZE and component in SERVICES:
            return f"{component} (zombie)"
        return f"{component} ({self.fault})"


def schedule(kills: int, seed: int, replicas: int) -> Sequence[Step]:
    """kills: how many faults. replicas: of each service.

    Victims come in rounds, each in an order of its own: a run of 8 faults has met all of them.
    """
    chance = random.Random(seed)  # noqa: S311
    steps: list[Step] = []
    for victim in _victims(chance):
        if len(steps) == kills:
            return steps
        steps.append(_step(victim, chance.uniform(*GAP_S), replicas, chance))
    raise AssertionError("the victims never end")


def _victims(chance: random.Random) -> Iterator[str]:
    while True:
        round_ = [*SERVICES, "triton", "milvus", "kafka", "zombie"]
        chance.shuffle(round_)
        yield from round_


def _step(victim: str, after_s: float, replicas: int, chance: random.Random) -> Step:
    number = chance.randrange(replicas)
    if victim == "zombie":
        service = chance.choice(SERVICES)
        return Step(after_s, _instance(service, number), Fault.FREEZE, chance.uniform(*ZOMBIE_S))
    if victim in SERVICES:
        return Step(after_s, _instance(victim, number), Fault.KILL)
    if victim == "kafka":
        return Step(after_s, victim, chance.choice((Fault.KILL, Fault.KILL, Fault.RESTART)))
    if chance.random() < 1 / 3:
        return Step(after_s, victim, Fault.FREEZE, chance.uniform(*HANG_S))
    return Step(after_s, victim, Fault.KILL)


def _instance(service: str, number: int) -> str:
    return f"{service}-{number}" if number else service
