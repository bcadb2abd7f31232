"""Who a process is: its id and when it started, so that a later process with the same id is never taken for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

STATE, THREADS, START_TIME = 0, 17, 19
"""Places in /proc/PID/stat, counted behind the command's name: fields 3, 20 and 22 of proc(5)."""


@dataclass(frozen=True)
class ProcessId:
    """started: clock ticks between the machine's start and the process's."""

    pid: int
    started: int


def parse_stat(text: str) -> tuple[bool, int]:
    """(whether it has ended, start time in ticks) out of /proc/PID/stat. The name in brackets may hold anything.

    A process whose first thread has ended is a zombie, but holds its ports until its last thread has ended too.
    """
    fields = text.rpartition(")")[2].split()
    return fields[STATE] in "ZX" and int(fields[THREADS]) <= 1, int(fields[START_TIME])


def identify(pid: int, proc: Path = PROC) -> ProcessId | None:
    """The process that has this id now; None where there is none, or only one that has ended (a zombie)."""
    try:
        has_ended, started = parse_stat((proc / str(pid) / "stat").read_text())
    except (OSError, IndexError, ValueError):
        return None
    return None if has_ended else ProcessId(pid, started)


def is_alive(identity: ProcessId, proc: Path = PROC) -> bool:
    return identify(identity.pid, proc) == identity


def marked_with(start: str, proc: Path = PROC) -> tuple[ProcessId, ...]:
    """Every process whose environment holds an entry (`NAME=value`) that starts so, this process excepted.

    Children inherit their environment, so this also finds what a component left behind after it died itself.
    """
    beginning = start.encode()
    found: list[ProcessId] = []
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # Another user's, or gone meanwhile.
        if any(entry.startswith(beginning) for entry in entries) and (identity := identify(int(folder.name), proc)):
            found.append(identity)
    return tuple(found)


def name_of(pid: int, proc: Path = PROC) -> str:
    """The process's short name, to tell a person; empty where it can't be read."""
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""
