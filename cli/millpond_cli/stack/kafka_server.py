"""Formats Kafka's folder where that was not done yet, then becomes the broker (execve).

Run by the stack: `python -m millpond_cli.stack.kafka_server --libs DIR --settings DIR --state DIR --port N ...`.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from millpond_cli.stack.description import HOST

HEAP = ("-Xms256m", "-Xmx512m")
"""512 MB hold the page index, transactions and groups of a laptop's backlog; the log itself is the page cache's."""

MACHINE = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""The thorough compiler takes an eighth of a core for a local broker's first minutes, and most live no longer; with the
quick one alone Kafka took a fifth less of two busy cores, and is up a second earlier."""


def settings(static: str, logs: Path, port: int, controller_port: int) -> str:
    """server.properties: the repository's own, and what depends on this start.

    The quorum is the static kind: with the dynamic kind (`--standalone`) the controller's address would be part of
    the formatted folder, and another port base would no longer find it.
    """
    return static + "".join(
        f"{name}={value}\n"
        for name, value in (
            ("listeners", f"BROKER://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}"),
            ("advertised.listeners", f"BROKER://{HOST}:{port}"),
            ("controller.quorum.voters", f"1@{HOST}:{controller_port}"),
            ("log.dirs", logs),
        )
    )


def cluster_id(random: bytes) -> str:
    """Kafka's way to write 16 bytes. It never begins with "-", which the tool would take for an option."""
    return base64.urlsafe_b64encode(bytes([random[0] & 0x7F]) + random[1:]).rstrip(b"=").decode()


def java(libs: Path, configuration: Path, scratch: Path) -> list[str]:
    return [
        *("java", *HEAP, *MACHINE),
        *("-Djava.awt.headless=true", f"-Dkafka.logs.dir={scratch}", f"-Dlog4j2.configurationFile={configuration}"),
        *("-cp", f"{libs}/*"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Start a single Kafka broker on 127.0.0.1.")
    parser.add_argument("--libs", type=Path, required=True, help="folder of Kafka's jars")
    parser.add_argument("--settings", type=Path, required=True, help="folder of server.properties and log4j2.xml")
    parser.add_argument("--state", type=Path, required=True, help="folder for the log and the broker's own files")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--controller-port", type=int, required=True)
    arguments = parser.parse_args()
    if shutil.which("java") is None:
        sys.exit("kafka: no java found: install a Java 17 runtime or newer")
    state: Path = arguments.state
    logs = state / "log"
    logs.mkdir(parents=True, exist_ok=True)
    properties = state / "server.properties"
    static = (arguments.settings / "server.properties").read_text()
    properties.write_text(settings(static, logs, arguments.port, arguments.controller_port))
    command = java(arguments.libs, arguments.settings / "log4j2.xml", state)
    if not (logs / "meta.properties").exists():
        tool = [*command, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        identity = cluster_id(uuid.uuid4().bytes)
        finished = subprocess.run([*tool, "--cluster-id", identity, "--config", str(properties)], check=False)
        if finished.returncode != 0:
            sys.exit(finished.returncode)
    os.execvp(command[0], [*command, "kafka.Kafka", str(properties)])  # noqa: S606


if __name__ == "__main__":
    main()
