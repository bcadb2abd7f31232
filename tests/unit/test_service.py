"""How a service's process ends, and what it says when it does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millpond_core.service import Runtime, Stopped
from millpond_core.telemetry import Tracing

REPOSITORY = Path(__file__).resolve().parents[2]

SERVICE = """
import asyncio
import time

from millpond_core.service import Runtime, run
from millpond_core.settings import Settings
from millpond_core.stage_service import serve_stage


async def waits(settings: Settings, runtime: Runtime) -> None:
    await runtime.stopping.wait()


async def claims(settings: Settings, runtime: Runtime) -> None:
    await serve_stage("cache", settings, runtime, None, claims=True)


async def waits_for_what_never_comes(settings: Settings, runtime: Runtime) -> None:
    await runtime.unless_stopping(asyncio.Event().wait())


async def crashes(settings: Settings, runtime: Runtime) -> None:
    raise RuntimeError("broken wheel")


async def is_told_of_a_crash(settings: Settings, runtime: Runtime) -> None:
    asyncio.get_running_loop().call_soon(runtime.crashed, RuntimeError("broken wheel"))
    try:
        await asyncio.Event().wait()
    finally:
        print("closed what it had open", flush=True)


async def hangs(settings: Settings, runtime: Runtime) -> None:
    await runtime.stopping.wait()
    time.sleep(3600)


run("millpond-wheel", Settings, MAIN)
"""


def start(main: str, **settings: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in ("core", "proto/python"))
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE.replace("MAIN", main)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **settings},
    )


def events(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


@pytest.mark.parametrize(
    ("main", "number", "status", "last"),
    [
        ("waits", signal.SIGTERM, 0, "stopped"),
        ("waits", signal.SIGINT, 0, "stopped"),
        ("waits_for_what_never_comes", signal.SIGTERM, 0, "stopped"),
        ("hangs", signal.SIGTERM, 1, "not drained in time: ended as it is, Kafka gives the rest to the next"),
    ],
)
def test_a_signal_ends_a_service(main: str, number: signal.Signals, status: int, last: str) -> None:
    process = start(main, MILLPOND_DRAIN_S="0")
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["event"] == "started"
    process.send_signal(number)
    _, said = process.communicate()
    assert [line["event"] for line in events(said)] == ["stopping", last]
    assert process.returncode == status


@pytest.mark.parametrize("main", ["crashes", "is_told_of_a_crash"])
def test_an_exception_is_logged_and_ends_the_service(main: str) -> None:
    process = start(main)
    out, said = process.communicate()
    assert out == ("closed what it had open\n" if main == "is_told_of_a_crash" else "")
    assert "RuntimeError: broken wheel" in events(said)[-1]["exception"]
    assert process.returncode == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"MILLPOND_HTTP_PORT": "abc"},
        {"MILLPOND_HTTP_HOST": "192.0.2.1"},
        {"MILLPOND_HTTP_HOST": "no such host"},
        {"MILLPOND_STATE_DIR": "/dev/null/state"},
        {"MILLPOND_TRACES_FILE": "/dev/null/traces"},
    ],
)
def test_a_wrong_setting_is_named_without_a_traceback(wrong: dict[str, str]) -> None:
    process = start("claims" if "MILLPOND_STATE_DIR" in wrong else "waits", **wrong)
    _, said = process.communicate()
    assert said.splitlines()[-1].startswith(f"millpond-wheel: {next(iter(wrong))}")
    assert "Traceback" not in said
    assert process.returncode == 2


async def test_what_is_waited_for_is_given_up_when_the_service_stops() -> None:
    runtime = Runtime(Tracing(), 0)
    never = asyncio.Event()
    waiting = asyncio.create_task(runtime.unless_stopping(never.wait()))
    runtime.stopping.set()
    with pytest.raises(Stopped):
        await waiting


async def test_what_comes_before_the_end_is_given() -> None:
    async def comes() -> int:
        return 7

    assert await Runtime(Tracing(), 0).unless_stopping(comes()) == 7
