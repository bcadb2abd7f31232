"""Writes Milvus's configuration, then runs the server with its sockets on 127.0.0.1.

Run by the stack: `python -m millpond_cli.stack.milvus_server --binaries DIR --state DIR --port N ...`. The PyPI package
`milvus` carries the server packed: setup/milvus.py unpacks it once, where its own launcher would do so per data folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from millpond_cli.setup.errors import Missing
from millpond_cli.setup.milvus import package_data
from millpond_cli.stack import loopback
from millpond_cli.stack.description import HOST

PORT_NAMES = (
    *("root_coord_port", "proxy_internal_port", "query_coord_port", "query_node_port", "index_coord_port"),
    *("index_node_port", "data_coord_port", "data_node_port", "etcd_port"),
)
"""The template's names for the ports of Milvus's own parts, in the order of their numbers; etcd's peers come last."""

PARTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
"""The parts whose address is registered; left alone each takes the machine's first outside address."""

SESSION_S = 10
"""Seconds after which parts that were killed count as gone, for which the next start waits; Milvus's own 30 made that
start take a minute. Each renews it three times as often, so a machine may be busy for some seconds."""


def configuration(template: str, values: Mapping[str, str], etcd_settings: Path) -> str:
    """milvus.yaml out of the package's template, whose places read `{{ name(type): default }}`.

    What the template has no place for: each part's address, how long its session outlives it, and the settings of the
    etcd inside (without them it takes 2379 and 2380, and a second stack finds them taken).
    """

    def filled(place: re.Match[str]) -> str:
        name, _, default = place[1].partition(":")
        return values.get(name.partition("(")[0].strip(), default.strip())

    lines: list[str] = []
    part = ""
    for line in re.sub(r"\{\{(.*?)\}\}", filled, template).splitlines():
        if top := re.match(r"(\w+):", line):
            part = top[1]
        if part in PARTS and line.startswith("  ip:"):
            lines.append(f"  ip: {HOST}")
        elif part == "common" and line.startswith("    ttl:"):
            lines.append(f"    ttl: {SESSION_S}")
        else:
            lines.append(line)
        if line.startswith("etcd:"):
            lines += ["  config:", f"    path: {etcd_settings}"]
    return "\n".join(lines) + "\n"


def etcd_configuration(client_port: int, peer_port: int) -> str:
    client, peer = f"http://{HOST}:{client_port}", f"http://{HOST}:{peer_port}"
    return (
        "name: default\n"
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: default={peer}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Start a standalone Milvus.")
    parser.add_argument("--binaries", type=Path, required=True, help="its programs, unpacked")
    parser.add_argument("--state", type=Path, required=True, help="folder for data and configuration")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--first-inner-port", type=int, required=True, help="the first of ten for its own parts")
    arguments = parser.parse_args()
    state: Path = arguments.state
    for folder in ("configs", "data", "logs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    inner: int = arguments.first_inner_port
    ports = {name: str(inner + n) for n, name in enumerate(PORT_NAMES)}
    values = {
        **ports,
        "proxy_port": str(arguments.port),
        "etcd_data_dir": str(state / "data" / "etcd"),
        "etcd_log_path": "stdout",
        "etcd_log_level": "warn",
        "local_storage_dir": str(state / "data"),
        "rocksmq_data_dir": str(state / "data" / "rocksmq"),
        "system_log_path": "",
    }
    try:
        data = package_data()
    except Missing as failure:
        sys.exit(f"milvus: {failure}")
    etcd_settings = state / "configs" / "etcd.yaml"
    etcd_settings.write_text(etcd_configuration(inner + len(PORT_NAMES) - 1, inner + len(PORT_NAMES)))
    template = (data / "config.yaml.template").read_text()
    (state / "configs" / "milvus.yaml").write_text(configuration(template, values, etcd_settings))
    shutil.copyfile(data / "glog.conf", state / "configs" / "glog.conf")
    binaries: Path = arguments.binaries
    environment = {
        **os.environ,
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(arguments.metrics_port),
        "MILVUSCONF": str(state / "configs"),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(binaries), os.environ.get("LD_LIBRARY_PATH")])),
    }
    os.chdir(state)
    loopback.run([str(binaries / "milvus"), "run", "standalone"], environment)


if __name__ == "__main__":
    main()
