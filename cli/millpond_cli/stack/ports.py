"""Which ports are taken, and by whom."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from millpond_cli.stack.description import HOST, Instance
from millpond_cli.stack.errors import PortTaken
from millpond_cli.stack.identity import PROC, name_of

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""

HIGHEST = 65535

BASES = range(20400, 32600, 200)
"""Where `free_base` looks: above the default stack, below the numbers that outgoing connections take."""


@dataclass(frozen=True)
class Taken:
    """owner: (pid, name), or None where the owner is another user's process."""

    port: int
    component: str
    owner: tuple[int, str] | None

    def __str__(self) -> str:
        by = f"pid {self.owner[0]} ({self.owner[1]})" if self.owner else "another program"
        return f"port {self.port} ({self.component}) is taken by {by}: use --port-base"


def taken(instances: Iterable[Instance]) -> tuple[Taken, ...]:
    """The ports of these instances that something listens on already."""
    return tuple(
        Taken(port, instance.name, owner_of(port))
        for instance in instances
        for port in instance.ports.values()
        if not is_free(port)
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as failure:
            if failure.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def listening_inodes(table: str, port: int) -> set[str]:
    """The inodes of the sockets that listen on the port, out of the text of /proc/net/tcp or tcp6."""
    found: set[str] = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def owner_of(port: int, proc: Path = PROC) -> tuple[int, str] | None:
    """(pid, name) of the process that listens on the port, where it can be seen."""
    inodes: set[str] = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            inodes |= listening_inodes((proc / table).read_text(), port)
        except OSError:
            continue
    if not inodes:
        return None
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.iterdir():
        if folder.name.isdigit() and _holds(folder / "fd", sockets):
            return int(folder.name), name_of(int(folder.name), proc)
    return None


def _holds(folder: Path, sockets: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in sockets for link in folder.iterdir())
    except OSError:
        return False


def check_base(port_base: int, span: int) -> str | None:
    """What is wrong with the port base, or None."""
    if 1024 <= port_base <= HIGHEST - span:
        return None
    return f"--port-base {port_base} does not fit: it may be 1024 to {HIGHEST - span}, {span} ports are used from it on"


def free_base(ports: Sequence[int], bases: Sequence[int] = BASES) -> int:
    """A port base at which all these offsets are free now, for a second stack or a test. Raises PortTaken.

    Two processes that look at the same time begin at different ones.
    """
    first = os.getpid() % len(bases)
    for base in (*bases[first:], *bases[:first]):
        if all(is_free(base + offset) for offset in ports):
            return base
    raise PortTaken(f"no port base between {bases[0]} and {bases[-1]} is free")
