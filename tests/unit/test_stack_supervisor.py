"""The supervisor with real processes, small ones: what starts, dies, comes back and ends, and what is said of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from millpond_cli.stack.description import Answers, Component, Finishes, Instance, instances
from millpond_cli.stack.errors import DidNotStart, StackError
from millpond_cli.stack.identity import marked_with
from millpond_cli.stack.ports import free_base
from millpond_cli.stack.state import MARK
from millpond_cli.stack.supervisor import BACKOFF_S, Supervisor, backoff_s, ending, tail

SERVER = """
    import http.server, os, signal, sys
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/ready" else 503)
            self.end_headers()
        def log_message(self, *_):
            pass
    signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), os._exit(0)))
    server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page)
    print("serving", flush=True)
    server.serve_forever()
"""

DEAF = SERVER.replace("lambda *_: (", "lambda *_: None and (")
"""Ignores SIGTERM."""

FORKING = f"import os, signal\nif os.fork() == 0:\n    os.setsid()\n    signal.pause()\n{textwrap.dedent(SERVER)}"
"""Leaves a child in a session of its own."""

FAILING = "print('the reason', flush=True); raise SystemExit(3)"

STEP = "import pathlib; pathlib.Path('was-here').touch()"

HANGING = "import signal; print('still waiting', flush=True); signal.pause()"

BOUND_S = 30
"""Seconds until something that must come is missed: a hang's bound, far above what a busy machine needs."""


def server(name: str, offset: int, source: str = SERVER, **further: object) -> Component:
    command = ("{python}", "-c", textwrap.dedent(source), "{own.http}")
    return Component(name, command, {"http": offset}, Answers("http", "/ready"), **further)  # pyright: ignore[reportArgumentType]


def step(name: str, source: str, **further: object) -> Component:
    return Component(name, ("{python}", "-c", source), {}, Finishes(), **further)  # pyright: ignore[reportArgumentType]


class Watched:
    """A supervisor whose lines are kept."""

    def __init__(
        self,
        folder: Path,
        *components: Component,
        late: frozenset[str] = frozenset(),
        program: str = sys.executable,
        farewells: Mapping[str, Callable[[], None]] | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.lines: list[tuple[str, str]] = []
        self.folder = folder
        (folder / "logs").mkdir()
        base = free_base([offset for component in components for offset in component.ports.values()])
        values = {"python": program, "data": str(folder / "data")}
        self.instances: tuple[Instance, ...] = instances(components, base, values, replicas or {})
        self.supervisor = Supervisor(
            self.id,
            self.instances,
            logs=folder / "logs",
            data=folder / "data",
            environment=os.environ,
            report=lambda name, text: self.lines.append((name, text)),
            changed=lambda: None,
            late=late,
            farewells=farewells,
        )

    def said(self, name: str) -> str:
        return "\n".join(text for each, text in self.lines if each == name)

    def processes(self) -> int:
        return len(marked_with(f"{MARK}={self.id}/"))


@asynccontextmanager
async def started(watched: Watched) -> AsyncGenerator[Supervisor]:
    try:
        async with asyncio.timeout(BOUND_S):
            await watched.supervisor.start()
            yield watched.supervisor
    finally:
        await watched.supervisor.stop()


async def test_all_are_ready_after_the_start_and_gone_after_the_stop(tmp_path: Path) -> None:
    watched = Watched(
        tmp_path, server("well", 0), step("step", STEP, needs=["well"]), server("mill", 1, needs=["step"])
    )
    async with started(watched) as supervisor:
        assert {name: each.state for name, each in supervisor.states().items()} == {
            "well": "ready",
            "step": "finished",
            "mill": "ready",
        }
        assert (tmp_path / "data" / "step" / "was-here").exists()
        assert watched.processes() == 2
    assert watched.processes() == 0
    assert {each.state for each in supervisor.states().values()} == {"stopped"}


async def test_what_others_use_stops_after_them(tmp_path: Path) -> None:
    said: list[str] = []
    watched = Watched(
        tmp_path, server("well", 0), server("mill", 1, uses=["well"]), farewells={"well": lambda: said.append("bye")}
    )
    async with started(watched):
        pass
    assert [name for name, text in watched.lines if text == "stopped"] == ["mill", "well"]
    assert said == ["bye"]


async def test_one_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("well", 0), step("mill", FAILING))
    with pytest.raises(DidNotStart, match=r"(?s)mill ended with code 3 before it was ready.*the reason"):
        async with started(watched):
            pass
    assert watched.processes() == 0


async def test_a_service_that_ends_at_first_is_given_its_chances(tmp_path: Path) -> None:
    second_time = 'import os, sys\nif not os.path.exists("again"):\n    open("again", "w")\n    sys.exit(1)\n'
    watched = Watched(tmp_path, server("mill", 0, second_time + textwrap.dedent(SERVER), chances=2))
    async with started(watched) as supervisor:
        assert supervisor.states()["mill"].restarts == 1


async def test_a_wrong_setting_gets_no_second_chance(tmp_path: Path) -> None:
    watched = Watched(tmp_path, step("mill", "import sys; sys.exit(2)", chances=9))
    with pytest.raises(DidNotStart, match="mill ended with code 2"):
        async with started(watched):
            pass


async def test_replicas_die_one_by_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0, is_service=True), replicas={"mill": 2})
    async with started(watched) as supervisor:
        other = supervisor.states()["mill-1"]
        await supervisor.kill("mill")
        await supervisor.wait_ready("mill")
        assert supervisor.states()["mill-1"] == other


async def test_one_that_hangs_fails_the_start_and_is_ended(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0, HANGING, ready_s=0.2))
    with pytest.raises(DidNotStart, match=r"mill was not ready after 0\.2 s"):
        async with started(watched):
            pass
    assert watched.processes() == 0


async def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0), program="/no/such/program")
    with pytest.raises(DidNotStart, match=r"(?s)mill ended with code 1.*/no/such/program: No such file"):
        async with started(watched):
            pass


async def test_one_that_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0))
    async with started(watched) as supervisor:
        before = supervisor.states()["mill"].identity
        await supervisor.kill("mill")
        await supervisor.wait_ready("mill")
        after = supervisor.states()["mill"]
        assert after.identity != before
        assert after.restarts == 1
        assert "was ended by SIGKILL; starting it again in 0.5 s" in watched.said("mill")
        assert "\n    serving" in watched.said("mill")


async def test_a_halted_one_stays_down_until_it_is_restarted(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0))
    async with started(watched) as supervisor:
        await supervisor.halt("mill")
        assert supervisor.states()["mill"].state == "halted"
        assert watched.processes() == 0
        with pytest.raises(StackError, match="mill is stopped"):
            await supervisor.wait_ready("mill")
        await supervisor.restart("mill")
        assert supervisor.states()["mill"].state == "ready"
        await supervisor.restart("mill")
        assert watched.processes() == 1


async def test_a_deaf_one_is_killed_after_its_deadline(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0, DEAF, stop_s=0.2))
    async with started(watched):
        pass
    assert "did not stop within 0.2 s: killed" in watched.said("mill")
    assert watched.processes() == 0


async def test_what_a_component_left_behind_is_ended_with_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0, FORKING))
    async with started(watched) as supervisor:
        assert watched.processes() == 2
        await supervisor.kill("mill")
        await supervisor.wait_ready("mill")
        assert watched.processes() == 2
    assert watched.processes() == 0


async def test_a_late_one_is_not_waited_for_and_starts_when_its_program_is_there(tmp_path: Path) -> None:
    program = tmp_path / "python"
    watched = Watched(tmp_path, server("mill", 0), program=str(program), late=frozenset({"mill"}))
    async with started(watched) as supervisor:
        assert supervisor.states()["mill"].state == "waiting"
        program.symlink_to(sys.executable)
        await supervisor.wait_ready("mill")


async def test_a_late_one_that_never_comes_holds_up_no_stop(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0), program=str(tmp_path / "none"), late=frozenset({"mill"}))
    async with started(watched):
        pass
    assert watched.supervisor.states()["mill"].state == "stopped"


async def test_a_frozen_one_answers_again_when_thawed(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0))
    async with started(watched) as supervisor:
        await supervisor.send_signal("mill", signal.SIGSTOP)
        await supervisor.send_signal("mill", signal.SIGCONT)
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.instances[0].ports["http"])
        writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
        assert b"200" in await reader.readline()
        writer.close()


async def test_an_unknown_name_is_answered_with_the_known(tmp_path: Path) -> None:
    watched = Watched(tmp_path, server("mill", 0))
    async with started(watched) as supervisor:
        with pytest.raises(StackError, match="no mlil in this stack: it has mill"):
            await supervisor.kill("mlil")


def test_the_back_off_grows_to_its_last_step() -> None:
    assert [backoff_s(deaths) for deaths in range(1, 8)] == [*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]]


def test_a_tail_is_of_this_start_only_and_cut_to_a_screen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" + b"new \xff\n" + b"x" * 1000 + b"\n")
    assert tail(log, 4).splitlines() == ["", "    new �", "    " + "x" * 300]
    assert tail(tmp_path / "none") == ""


def test_an_ending_is_said_in_words() -> None:
    assert ending(3) == "ended with code 3"
    assert ending(-9) == "was ended by SIGKILL"
    assert ending(-200) == "was ended by signal 200"
