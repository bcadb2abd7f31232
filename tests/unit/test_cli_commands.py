"""What a person does wrong is one line on stderr and status 2, never a traceback."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from millpond.v1 import result_pb2
from millpond_cli.commands.options import prompt_of
from millpond_cli.commands.send import describe
from millpond_cli.commands.status import as_they_answer, duration
from millpond_cli.commands.tail import TEXT_CHARACTERS, one_line
from millpond_cli.commands.test import beside, run, static_checks
from millpond_cli.errors import CommandError
from millpond_cli.setup.home import REPOSITORY
from millpond_cli.stack import Addresses, ComponentState, State
from millpond_cli.stack.identity import identify
from millpond_cli.stack.state import write

FOLDERS = ("core", "proto/python", "cli", "services/cache", "services/router")


def millpond(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in FOLDERS)
    return subprocess.run(
        [sys.executable, "-m", "millpond_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "MILLPOND_HOME": str(home), **environment},
        check=False,
    )


def test_route_decides_by_the_settings_of_the_stack_that_is_up(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("router: {rules: none.yaml}")
    places = {each.name: "" for each in fields(Addresses)}
    told = Addresses(**{**places, "http": {}, "config": str(own)})  # type: ignore[arg-type]
    myself = identify(os.getpid())
    assert myself is not None
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "state.json", State("s", myself, "ready", 19000, told, {}))
    assert "none.yaml" in millpond(tmp_path, "route", "hello").stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["status"], "no stack is up"),
        (["down"], "no stack is up"),
        (["tail"], "no stack is up"),
        (["send", "hello"], "no stack is up"),
        (["send", "hello", "--tier", "soon"], "--tier soon: must be realtime, standard, overnight"),
        (["logs", "router"], "nothing has run here yet"),
        (["up", "--replicas", "batcher"], "SERVICE=COUNT"),
        (["up", "--config", "none.yaml"], "no such file"),
        (["up", "--port-base", "70000"], "--port-base 70000 does not fit"),
        (["demo", "--port-base", "70000"], "--port-base 70000 does not fit"),
        (["up", "--model", "none"], "--model none: must be real or echo"),
        (["chaos", "--model", "none"], "--model none: must be real or echo"),
        (["chaos", "--json", "none/out.json"], "no such folder"),
        (["deadletter", "list"], "no stack is up"),
        (["deadletter", "list", "--reason", "none"], "--reason none: must be one of malformed"),
        (["deadletter", "replay"], "name dead letters as PARTITION-OFFSET"),
        (["demo", "--input", "none.jsonl"], "No such file"),
        (["cache", "stats"], "no stack is up"),
        (["cache", "invalidate", "--tag", "a", "--dry-run"], "no stack is up"),
        (["cache", "invalidate", "--dry-run"], "either which"),
        (["cache", "invalidate", "--all", "--tag", "a"], "or --all"),
        (["cache", "feedback", "r-1", "--wrong"], "no stack is up"),
        (["cache", "warm", "none.jsonl"], "No such file"),
        (["eval", "cache", "none.jsonl"], "No such file"),
        (["eval", "cache", "none.jsonl", "--json", "none/out.json"], "no such folder"),
        (["demo", "--json", "none/out.json"], "no such folder"),
        (["demo", "--json", "."], "--json .: is a folder, not a file"),
        (["recalibrate", "--json", "none/out.json"], "no such folder"),
        (["bench", "pipeline", "--json", "none/out.json"], "no such folder"),
        (
            ["eval", "router", "none.jsonl", "--task", "guess"],
            "--task guess: must be domain, intent, strong-weak, models",
        ),
        (["eval", "router", "none.jsonl", "--task", "domain", "--fit", "a.jsonl"], "--fit is for --task intent"),
        (["eval", "router", "none.jsonl", "--task", "domain", "--json", "none/out.json"], "no such folder"),
        (["eval", "router", "none.jsonl", "--task", "domain"], "none.jsonl: cannot be read"),
        (["route", "hello", "--tier", "soon"], "--tier soon: must be realtime, standard, overnight"),
        (["route", "hello", "--config", "none.yaml"], "no such file"),
        (["feedback", "none.jsonl"], "none.jsonl: cannot be read"),
        (["recalibrate"], "no stack is up"),
        (["recalibrate", "--roll-back"], "--roll-back: name the file with --to"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path: Path, arguments: list[str], line: str) -> None:
    ended = millpond(tmp_path, *arguments)
    assert ended.returncode == 2
    assert line in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_provider_without_its_models_name_is_not_asked_for_the_stand_in(tmp_path: Path, command: str) -> None:
    ended = millpond(tmp_path, command, MILLPOND_PROVIDER_BASE_URL="https://models.example/v1")
    assert ended.returncode == 2
    assert ended.stderr == (
        "millpond: MILLPOND_PROVIDER_BASE_URL names a provider: MILLPOND_PROVIDER_MODEL must name its model\n"
    )


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "/proc/home"])
def test_a_home_that_is_no_folder_is_one_line_and_status_2(home: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "millpond"), "status"],
        capture_output=True,
        text=True,
        env={**os.environ, "MILLPOND_HOME": home},
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"millpond: {home} cannot be used, MILLPOND_HOME names another: ")
    assert ended.stderr.count("\n") == 1


BROKEN = os.fsdecode(b"\xff")
"""As the system hands over an argument that is not UTF-8."""


@pytest.mark.parametrize(
    "arguments",
    [["send", BROKEN], ["send", "x", "--tenant", BROKEN], ["route", BROKEN], ["hold", BROKEN], [BROKEN]],
    ids=["send", "tenant", "route", "hold", "command"],
)
def test_an_argument_that_is_not_utf_8_is_one_line_and_status_2(arguments: list[str], tmp_path: Path) -> None:
    ended = millpond(tmp_path, *arguments)
    assert (ended.returncode, ended.stderr) == (2, f"millpond: argument {len(arguments)} is not UTF-8\n")


def test_standard_input_that_is_not_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(CommandError, match="standard input is not UTF-8"):
        prompt_of("-")


@pytest.mark.parametrize("replicas", ["nosuch=2", "kafka=2", "batcher=0", "batcher=1000", "batcher=two"])
def test_replicas_that_cannot_be_are_refused_before_anything_is_set_up(replicas: str, tmp_path: Path) -> None:
    ended = millpond(tmp_path, "up", "--replicas", replicas)
    assert ended.returncode == 2
    assert ended.stderr.startswith("millpond: --replicas")
    assert ended.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


async def test_a_component_that_hangs_is_not_called_ready() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    answering = await asyncio.start_server(answer, "127.0.0.1", 0)
    # It takes connections, as a stopped process's socket does, and never answers.
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        ports = [each.getsockname()[1] for each in (answering.sockets[0], hanging)]
        named = {"triton": ports[1], "batcher-1": ports[0], "router": ports[1]}
        components = {
            name: ComponentState("ready", 0.0, 0, None, {"http": port}, "log") for name, port in named.items()
        }
        components["router"] = replace(components["router"], state="died")
        found = await as_they_answer({**components, "topics": ComponentState("finished", 0.0, 0, None, {}, "log")})
    answering.close()
    states = {name: each.state for name, each in found.items()}
    assert states == {"triton": "not ready", "batcher-1": "ready", "router": "died", "topics": "finished"}


def test_no_command_waits_for_the_import_of_a_client_that_only_one_needs() -> None:
    """Milvus's takes seconds, longer than everything else that a command does."""
    heavy = "{'pymilvus', 'pandas', 'faust', 'sentence_transformers'}"
    script = f"import sys, millpond_cli.__main__; print(*{heavy} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_an_unknown_command_is_status_2_without_a_traceback(tmp_path: Path) -> None:
    ended = millpond(tmp_path, "dmeo")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_the_last_lines_of_a_log_are_shown_and_other_names_listed(tmp_path: Path) -> None:
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    (logs / "router.log").write_text("one\ntwo\nthree\n")
    assert millpond(tmp_path, "logs", "router", "-n", "2").stdout == "two\nthree\n"
    assert "there are those of router" in millpond(tmp_path, "logs", "rooter").stderr


def test_a_log_that_is_followed_shows_what_is_written_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    log = logs / "router.log"
    log.write_text("one\n")
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in FOLDERS)
    following = subprocess.Popen(
        [sys.executable, "-m", "millpond_cli", "logs", "router", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "MILLPOND_HOME": str(tmp_path)},
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    with log.open("a") as sink:
        sink.write("two\n")
    assert following.stdout.readline() == "two\n"
    # As a start does with a log that has grown long.
    log.rename(logs / "router.log.1")
    partial = logs / "router.partial"
    partial.write_text("three, of the next start\n")
    partial.rename(log)
    assert following.stdout.readline() == "three, of the next start\n"
    following.send_signal(signal.SIGINT)
    _, said = following.communicate()
    assert following.returncode == 130
    assert "Traceback" not in said


def test_a_check_gives_its_exit_code_and_a_killed_one_is_no_success() -> None:
    assert run([sys.executable, "-c", "raise SystemExit(3)"], os.environ) == 3
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], os.environ) == 137


def test_what_runs_beside_is_waited_for_and_says_what_it_said(capfd: pytest.CaptureFixture[str]) -> None:
    with beside([sys.executable, "-c", "print('seen'); raise SystemExit(3)"], os.environ) as rest:
        assert rest() == 3
    assert "seen" in capfd.readouterr().out


def test_what_runs_beside_ends_where_the_rest_is_given_up(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    sleeps = f"import os, time, pathlib; pathlib.Path({str(told)!r}).write_text(str(os.getpid())); time.sleep(600)"
    with beside([sys.executable, "-c", sleeps], os.environ):
        while not told.exists() or not told.read_text():
            pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_the_checks_are_the_workspaces_own_programs() -> None:
    assert all(Path(check[0]).is_absolute() for check in static_checks())


def test_what_a_model_wrote_does_not_steer_the_terminal() -> None:
    result = result_pb2.Result(id="a", tenant="acme", status=result_pb2.STATUS_OK, cost_usd="0.000005")
    result.output.text = "red \x1b[31m\x07 and\n\tindented"
    result.timings_ms["total"] = 1
    assert "\x1b" not in one_line(result) + describe(result)
    assert "\n\tindented" in describe(result)
    failed = result_pb2.Result(status=result_pb2.STATUS_ERROR, error=result_pb2.Error(message="\x1b[2J"))
    assert "\x1b" not in one_line(failed) + describe(failed)


def test_a_result_is_one_line_however_long_its_text() -> None:
    result = result_pb2.Result(id="a", tenant="acme", status=result_pb2.STATUS_OK, cost_usd="0.000005")
    result.output.text = "word\n" * 1000
    line = one_line(result)
    assert "\n" not in line
    assert len(line) < TEXT_CHARACTERS + 80


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (119, "119 s"), (600, "10 min"), (36_000, "10 h")])
def test_a_duration_is_as_exact_as_a_glance_needs(seconds: float, words: str) -> None:
    assert duration(seconds) == words
