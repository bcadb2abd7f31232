"""Keeps a stack's processes: starts each when what it needs is ready, starts it again when it dies, stops them all.

One asyncio task per instance walks through

    waiting ──▶ starting ──▶ ready ──▶ died ──(back-off)──▶ starting ...      a server
    waiting ──▶ starting ──▶ finished                                          a step
    any ──▶ halted ──▶ starting ...                                            at a person's or a test's wish
    any ──▶ stopped                                                            with the stack
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from millpond_cli.setup.leash import leashed
from millpond_cli.setup.progress import Report
from millpond_cli.stack.description import Finishes, Instance
from millpond_cli.stack.errors import DidNotStart, StackError
from millpond_cli.stack.identity import ProcessId, identify
from millpond_cli.stack.leftovers import sweep
from millpond_cli.stack.probe import is_ready
from millpond_cli.stack.state import MARK, ComponentState, mark

PROBE_EVERY_S = 0.05
"""Seconds between two questions whether a component is ready: far below what a start takes."""

LOOK_EVERY_S = 0.5
"""Seconds between two looks whether a late component's program is there; it took minutes to make."""

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the first, second, ... start after a death; the last for all further ones."""

WRONG_SETTING = 2
"""The exit code of a program that was started wrongly: to start it so again is of no use."""

STEADY_S = 30.0
"""Seconds of being ready after which earlier deaths no longer count."""

TAIL_LINES = 12
TAIL_COLUMNS = 300
"""What of a dead component's log is shown."""


def backoff_s(deaths: int) -> float:
    """Seconds to wait before the next start. deaths: in a row, at least 1."""
    return BACKOFF_S[min(deaths, len(BACKOFF_S)) - 1]


def tail(log: Path, offset: int = 0) -> str:
    """The last lines of the log behind the offset in bytes, each cut to a screen's width, indented."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(offset, size - TAIL_LINES * 4 * TAIL_COLUMNS))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {line[:TAIL_COLUMNS]}" for line in lines[-TAIL_LINES:])


def ending(code: int) -> str:
    """How a process ended, in words. code: negative for a signal, as Popen has it."""
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


@dataclass
class Kept:
    """An instance and where it is in its life."""

    instance: Instance
    log: Path
    folder: Path
    state: str = "waiting"
    since: float = field(default_factory=time.time)
    restarts: int = 0
    deaths: int = 0
    process: asyncio.subprocess.Process | None = None
    identity: ProcessId | None = None
    is_wanted: bool = True
    life: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    log_offset: int = 0
    is_late: bool = False

    def __post_init__(self) -> None:
        self.dead.set()


class Supervisor:
    """Used inside one event loop whose thread lives as long as the stack: the leash is tied to that thread."""

    def __init__(
        self,
        stack: str,
        instances: Iterable[Instance],
        *,
        logs: Path,
        data: Path,
        environment: Mapping[str, str],
        report: Report,
        changed: Callable[[], None],
        late: Collection[str] = (),
        farewells: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """stack: this start's id. environment: what every component inherits. changed: called after every step.

        late: instances whose program is still being made. Nothing waits for them; each starts once it is there.
        farewells: instance → called, in a thread, when all that use it have stopped and it is about to.
        """
        self._stack = stack
        self._environment = dict(environment)
        self._report = report
        self._changed = changed
        self._farewells = dict(farewells or {})
        self._kept = {i.name: Kept(i, logs / f"{i.name}.log", data / i.name, is_late=i.name in late) for i in instances}

    def states(self) -> dict[str, ComponentState]:
        return {
            name: ComponentState(
                state=kept.state,
                since=kept.since,
                restarts=kept.restarts,
                identity=kept.identity,
                ports=kept.instance.ports,
                log=str(kept.log),
            )
            for name, kept in self._kept.items()
        }

    async def start(self) -> None:
        """Start everything and wait until all but the late is ready. Raises DidNotStart; then `stop` is still due."""
        for kept in self._kept.values():
            self._begin(kept)
        awaited = [kept for kept in self._kept.values() if not kept.is_late]
        waits = {asyncio.create_task(kept.ready.wait()) for kept in awaited}
        lives = {kept.life for kept in awaited if kept.life}
        try:
            while not all(wait.done() for wait in waits):
                pending = [task for task in (*waits, *lives) if not task.done()]
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for life in lives:
                    if life.done():
                        life.result()
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stop everything, what is needed by others after them. Nothing is left when this returns."""
        self._dismiss_all()
        users = {
            name: [each for each in self._kept.values() if name in (*each.instance.needs, *each.instance.uses)]
            for name in self._kept
        }
        try:
            await asyncio.gather(*(self._stop(kept, users[name]) for name, kept in self._kept.items()))
        finally:
            await asyncio.to_thread(sweep, mark(self._stack))

    async def kill_all(self) -> None:
        """SIGKILL everything at once."""
        self._dismiss_all()
        await asyncio.to_thread(sweep, mark(self._stack))

    async def kill(self, name: str) -> None:
        """SIGKILL the instance, as a crash would; returns when it is dead. It starts again as after any death."""
        kept = self._of(name)
        self._signal_group(kept, signal.SIGKILL)
        await kept.dead.wait()

    async def send_signal(self, name: str, signum: int) -> None:
        """Send a signal to the instance's whole group, SIGSTOP for example."""
        self._signal_group(self._of(name), signum)

    async def halt(self, name: str) -> None:
        """Stop the instance and leave it stopped until `restart`."""
        kept = self._of(name)
        kept.is_wanted = False
        kept.hurry.set()
        if kept.state == "waiting" and kept.life:
            kept.life.cancel()
        await self._end(kept)
        if kept.life:
            await asyncio.wait({kept.life})
        self._move(kept, "halted")

    async def wait_ready(self, name: str) -> None:
        """Wait until the instance is ready. Raises StackError where nothing will make it so."""
        kept = self._of(name)
        if not kept.is_wanted:
            raise StackError(f"{name} is stopped")
        await kept.ready.wait()

    async def restart(self, name: str) -> None:
        """Stop the instance where it runs, start it, and wait until it is ready. Raises DidNotStart."""
        await self.halt(name)
        kept = self._of(name)
        kept.is_wanted, kept.deaths = True, 0
        kept.hurry.clear()
        wait = asyncio.create_task(kept.ready.wait())
        life = self._begin(kept)
        done, _ = await asyncio.wait({wait, life}, return_when=asyncio.FIRST_COMPLETED)
        wait.cancel()
        if life in done:
            life.result()

    def _dismiss_all(self) -> None:
        """From here on nothing is started again."""
        for kept in self._kept.values():
            kept.is_wanted = False
            kept.hurry.set()

    def _begin(self, kept: Kept) -> asyncio.Task[None]:
        kept.life = asyncio.create_task(self._live(kept, is_first=True))
        kept.life.add_done_callback(lambda life: self._mourn(kept.instance.name, life))
        return kept.life

    def _mourn(self, name: str, life: asyncio.Task[None]) -> None:
        """A life that ended by itself must not end unseen. Whoever waits for a start tells why it did not work."""
        if life.cancelled() or not (failure := life.exception()):
            return
        if not isinstance(failure, DidNotStart):
            self._report(name, f"is no longer watched: {failure!r}")
        elif self._kept[name].is_late:
            self._report(name, str(failure))

    def _of(self, name: str) -> Kept:
        if name not in self._kept:
            raise StackError(f"no {name} in this stack: it has {', '.join(self._kept)}")
        return self._kept[name]

    def _move(self, kept: Kept, state: str) -> None:
        if kept.state != state:
            kept.state, kept.since = state, time.time()
        self._changed()

    async def _live(self, kept: Kept, *, is_first: bool) -> None:
        """The instance's life, until nobody wants it. Raises DidNotStart where it has no chance left to get ready."""
        name, component = kept.instance.name, kept.instance.component
        await asyncio.gather(*(self._kept[need].ready.wait() for need in kept.instance.needs))
        while kept.is_late and kept.is_wanted and not os.access(kept.instance.command[0], os.X_OK):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await kept.hurry.wait()
        while kept.is_wanted:
            started = time.monotonic()
            process = await self._launch(kept)
            ended = asyncio.create_task(process.wait())
            was_ready = await self._becomes_ready(kept, ended, component.ready_s if is_first else None)
            if was_ready:
                is_first = False
                self._report(name, f"ready in {time.monotonic() - started:.1f} s")
                self._move(kept, "ready")
                kept.ready.set()
            steady_from = time.monotonic()
            code = await ended
            await self._bury(kept)
            if isinstance(component.ready, Finishes) and code == 0:
                self._report(name, f"done in {time.monotonic() - started:.1f} s")
                self._move(kept, "finished")
                kept.ready.set()
                return
            if not kept.is_wanted:
                return
            self._move(kept, "died")
            last_lines = tail(kept.log, kept.log_offset)
            steady = was_ready and time.monotonic() - steady_from > STEADY_S
            kept.deaths = 1 if steady else kept.deaths + 1
            if is_first and (kept.deaths >= component.chances or code == WRONG_SETTING):
                raise DidNotStart(f"{name} {ending(code)} before it was ready; see {kept.log}{last_lines}")
            wait_s = backoff_s(kept.deaths)
            self._report(name, f"{ending(code)}; starting it again in {wait_s:g} s; see {kept.log}{last_lines}")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await kept.hurry.wait()
            kept.restarts += 1

    async def _launch(self, kept: Kept) -> asyncio.subprocess.Process:
        kept.folder.mkdir(parents=True, exist_ok=True)
        with kept.log.open("ab") as log:
            kept.log_offset = log.tell()
            process = await asyncio.create_subprocess_exec(
                *leashed(),
                *kept.instance.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=kept.folder,
                env={
                    **self._environment,
                    **{key: value for key, value in kept.instance.environment.items() if value},
                    MARK: mark(self._stack, kept.instance.name),
                },
                # A group of its own: it ends as a whole, and Ctrl-C in the terminal reaches only the supervisor.
                start_new_session=True,
            )
        kept.process, kept.identity = process, identify(process.pid)
        kept.dead.clear()
        self._move(kept, "starting")
        return process

    async def _becomes_ready(self, kept: Kept, ended: asyncio.Task[int], within_s: float | None) -> bool:
        """False where it ends first. Raises DidNotStart where it takes longer than within_s, having ended it."""
        check = kept.instance.component.ready
        started = time.monotonic()
        while not ended.done():
            if not isinstance(check, Finishes) and await is_ready(check, kept.instance.ports[check.port]):
                return True
            if within_s is not None and time.monotonic() - started > within_s:
                self._signal_group(kept, signal.SIGKILL)
                await ended
                await self._bury(kept)
                self._move(kept, "died")
                last_lines = tail(kept.log, kept.log_offset)
                raise DidNotStart(
                    f"{kept.instance.name} was not ready after {within_s:g} s; see {kept.log}{last_lines}"
                )
            await asyncio.wait({ended}, timeout=PROBE_EVERY_S)
        return False

    async def _bury(self, kept: Kept) -> None:
        """The leader has ended: end what it left of its group, and forget it."""
        await asyncio.to_thread(sweep, mark(self._stack, kept.instance.name))
        kept.ready.clear()
        kept.process, kept.identity = None, None
        kept.dead.set()

    async def _stop(self, kept: Kept, users: Sequence[Kept]) -> None:
        await asyncio.gather(*(user.dead.wait() for user in users))
        had_process = kept.process is not None
        if had_process and (farewell := self._farewells.get(kept.instance.name)):
            await asyncio.to_thread(farewell)
        await self._end(kept)
        if kept.life:
            kept.life.cancel()
            await asyncio.wait({kept.life})
        self._move(kept, "stopped")
        if had_process:
            self._report(kept.instance.name, "stopped")

    async def _end(self, kept: Kept) -> None:
        """SIGTERM to the leader, which knows how to end its own children; SIGKILL to all of them after the deadline."""
        if kept.process is None:
            return
        with suppress(ProcessLookupError):
            kept.process.terminate()
        try:
            async with asyncio.timeout(kept.instance.component.stop_s):
                await kept.dead.wait()
        except TimeoutError:
            self._report(kept.instance.name, f"did not stop within {kept.instance.component.stop_s:g} s: killed")
            self._signal_group(kept, signal.SIGKILL)
            await kept.dead.wait()

    @staticmethod
    def _signal_group(kept: Kept, signum: int) -> None:
        # The leader is not waited for yet, so its number, the group's too, belongs to nobody else.
        if kept.process is not None and kept.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(kept.process.pid, signum)
