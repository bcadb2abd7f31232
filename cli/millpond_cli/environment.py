"""On what a figure was measured: the `environment` of every JSON that demo and benchmarks write."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from millpond_cli.setup.home import REPOSITORY, Home

PACKAGES = ("milvus", "confluent-kafka", "faust-streaming", "grpcio", "pymilvus", "opentelemetry-sdk")
"""Whose versions may move a figure, in the workspace's environment."""

MODELS_PACKAGES = ("nvidia-pytriton", "openvino-genai", "xllamacpp")
"""The same, in the models' environment: Triton comes inside nvidia-pytriton."""


ANSWER_S = 3.0
"""Triton's, to what version it is."""


def environment(home: Home, triton: str | None = None) -> dict[str, Any]:
    """JSON-ready. What can't be found out is null. triton: its HTTP address, where it runs."""
    return {
        "cpu": cpu(_text(Path("/proc/cpuinfo"))),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory_gib(_text(Path("/proc/meminfo"))),
        "system": platform.platform(),
        "versions": {**versions(home), "triton": triton_version(triton) if triton else None},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(REPOSITORY),
    }


def cpu(cpuinfo: str) -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or None


def memory_gib(meminfo: str) -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return round(int(found[1]) / (1 << 20), 1) if found else None


def versions(home: Home) -> Mapping[str, str | None]:
    return {
        "python": platform.python_version(),
        "kafka": kafka_version(_text(REPOSITORY / "stack" / "kafka" / "pom.xml")),
        "jaeger": jaeger_version(_text(REPOSITORY / "stack" / "jaeger" / "go.mod")),
        **{name: _installed(name) for name in PACKAGES},
        **{name: _installed_in(home.models_env, name) for name in MODELS_PACKAGES},
    }


def kafka_version(pom: str) -> str | None:
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)</version>", pom)
    return found[1] if found else None


def jaeger_version(go_mod: str) -> str | None:
    found = re.search(r"github\.com/jaegertracing/jaeger (v\S+)", go_mod)
    return found[1] if found else None


def triton_version(url: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{url}/v2", timeout=ANSWER_S) as response:  # noqa: S310
            return json.load(response)["version"]
    except (OSError, ValueError, KeyError):
        return None


def git_revision(checkout: Path) -> str | None:
    """With "+changes" where the checkout is not as it was committed."""
    try:
        revision = _git(checkout, "rev-parse", "HEAD")
        return f"{revision}+changes" if _git(checkout, "status", "--porcelain") else revision
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _installed_in(env: Path, package: str) -> str | None:
    """By the name of its folder of metadata: the other environment's Python is not started for this."""
    folders = env.glob(f"lib/python3.*/site-packages/{package.replace('-', '_')}-*.dist-info")
    return next((folder.name.removesuffix(".dist-info").rpartition("-")[2] for folder in folders), None)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
