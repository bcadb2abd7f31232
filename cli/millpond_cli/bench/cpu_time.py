"""Which processes had the cores while something was measured. On Linux; elsewhere nothing is known."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

OTHERS = "others"
"""Whatever else ran on the machine."""


@dataclass(frozen=True)
class CpuTime:
    """at_s: monotonic. seconds: of CPU until then, by name, and of the whole machine since its start."""

    at_s: float
    seconds: Mapping[str, float]
    machine_s: float


def read(roots: Mapping[int, str], proc: Path = PROC) -> CpuTime | None:
    """None where there is no /proc. roots: names by process id; what descends from one counts to it, while it lives."""
    try:
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        # user, nice, system, idle, iowait, irq, softirq, steal.
        machine = [int(each) for each in (proc / "stat").read_text().split(maxsplit=9)[1:9]]
    except (OSError, ValueError):
        return None
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for file in proc.glob("[0-9]*/stat"):
        try:
            # The program's name, in parentheses, may hold anything.
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            # It ended just now.
            continue
        process = int(file.parent.name)
        parents[process] = int(fields[1])
        ticks[process] = int(fields[11]) + int(fields[12])
    seconds: dict[str, float] = defaultdict(float)
    for process, own in ticks.items():
        ancestor = process
        while ancestor and ancestor not in roots:
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            seconds[roots[ancestor]] += own * tick_s
    return CpuTime(time.monotonic(), seconds, (sum(machine) - machine[3] - machine[4]) * tick_s)


def cores(before: CpuTime | None, after: CpuTime | None) -> dict[str, float]:
    """JSON-ready: how many cores each had on the average between two looks; empty where nothing is known."""
    if before is None or after is None:
        return {}
    seconds = after.at_s - before.at_s
    own = {name: used - before.seconds.get(name, 0.0) for name, used in after.seconds.items()}
    own[OTHERS] = max(after.machine_s - before.machine_s - sum(own.values()), 0.0)
    return {name: round(max(used, 0.0) / seconds, 3) for name, used in own.items()}
