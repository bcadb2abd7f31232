"""On what figures are measured is read off the files that pin it."""

from __future__ import annotations

from pathlib import Path

from millpond_cli.environment import cpu, environment, git_revision, jaeger_version, kafka_version, memory_gib
from millpond_cli.setup.home import REPOSITORY, Home


def test_the_pinned_versions_are_found() -> None:
    assert (kafka_version((REPOSITORY / "stack/kafka/pom.xml").read_text()) or "").startswith("4.")
    assert (jaeger_version((REPOSITORY / "stack/jaeger/go.mod").read_text()) or "").startswith("v1.")


def test_cpu_and_memory_are_read_off_the_kernels_files() -> None:
    assert cpu("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n") == "AMD EPYC"
    assert memory_gib("MemTotal:       16777216 kB\nMemFree: 1 kB\n") == 16.0


def test_what_is_not_there_is_null(tmp_path: Path) -> None:
    versions = environment(Home(tmp_path))["versions"]
    assert versions["nvidia-pytriton"] is None
    assert versions["triton"] is None
    assert git_revision(tmp_path) is None
