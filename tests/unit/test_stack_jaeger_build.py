"""Jaeger's build in the background, with a `go` that stands in for the five minutes."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from millpond_cli.setup import jaeger
from millpond_cli.setup.home import Home
from millpond_cli.setup.jaeger import JaegerBuild

GO = """#!/bin/sh
[ "$1" = version ] && { echo "go version go1.26.0 linux/amd64"; exit 0; }
while [ "$1" != -o ]; do shift; done
"""


class Machine:
    """One whose PATH has the shell's own programs and, if any, this Go."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Home(folder / "home")
        self.lines: list[str] = []
        self.said = threading.Event()
        self._programs = folder / "programs"
        self._programs.mkdir()
        self._path = monkeypatch
        for name in ("sh", "nice", "cat"):
            (self._programs / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
        monkeypatch.setenv("PATH", str(self._programs))

    def with_go(self, then: str) -> None:
        go = self._programs / "go"
        go.write_text(GO + then)
        go.chmod(0o755)

    def build(self) -> JaegerBuild:
        return JaegerBuild(self.home, self.report)

    def report(self, name: str, text: str) -> None:
        assert name == "jaeger"
        self.lines.append(text)
        self.said.set()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_without_go_nothing_is_coming_and_a_line_says_so(machine: Machine) -> None:
    with machine.build() as build:
        assert not build.is_coming
        assert not build.wait()
    assert machine.lines == ["no Go 1.21 or newer here to build it with: traces go to a file"]


def test_a_build_is_coming_until_it_is_there_and_not_made_twice(machine: Machine) -> None:
    machine.with_go('echo "#!/bin/sh" > "$2"')
    with machine.build() as build:
        assert build.wait()
        assert not build.is_coming
    assert machine.home.jaeger_binary.read_text() == "#!/bin/sh\n"
    assert machine.lines[-1].startswith("built in")
    machine.with_go("exit 1")
    with machine.build() as build:
        assert build.wait()
    assert len(machine.lines) == 2


def test_a_failed_build_says_where_to_look_and_is_tried_again(machine: Machine) -> None:
    machine.with_go("echo no network; exit 1")
    with machine.build() as build:
        assert not build.wait()
        assert not build.is_coming
    log = machine.home.jaeger_binary.with_name("build.log")
    assert machine.lines[-1] == f"could not be built, so traces go to a file; see {log}"
    assert log.read_text() == "no network\n"
    machine.with_go('echo > "$2"')
    with machine.build() as build:
        assert build.wait()


def test_leaving_ends_the_build_and_what_it_started(machine: Machine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Its child holds the pipe open for as long as it lives.
    machine.with_go(f"sh -c 'echo begun; exec cat' > {pipe} < {pipe}")
    with ExitStack() as inside:
        build = inside.enter_context(machine.build())
        reading = pipe.open()
        assert reading.readline() == "begun\n"
        assert build.is_coming
    assert reading.read() == ""
    reading.close()
    assert not jaeger.is_ready(machine.home)


def test_one_that_another_command_builds_is_coming_too(machine: Machine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    machine.with_go(f'cat < {pipe} > "$2"')
    with machine.build() as first, machine.build() as second:
        assert first.is_coming
        assert second.is_coming
        pipe.write_text("jaeger")
        assert first.wait()
        assert second.is_coming is False
