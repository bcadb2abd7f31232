"""The local stack as one object: start it, know its addresses, harm it, stop it."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import signal
import sys
import threading
import uuid
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from millpond_cli.configuration import configuration
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.progress import Report, print_line
from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.components import COMPONENTS, DEFAULT_PORT_BASE, MODELS, MODELS_ENVIRONMENT, SPAN
from millpond_cli.stack.description import DescriptionError
from millpond_cli.stack.errors import AlreadyUp, NotSetUp, PortTaken, StackError
from millpond_cli.stack.identity import identify
from millpond_cli.stack.leftovers import end_leftovers
from millpond_cli.stack.plan import Facts, plan
from millpond_cli.stack.ports import check_base, free_base, taken
from millpond_cli.stack.state import ComponentState, Phase, State, read, write
from millpond_cli.stack.supervisor import Supervisor
from millpond_cli.stack.trace_file import NotTaken, TraceFile

SEND_TRACES_EVERY_S = 2.0
"""Seconds between two looks whether Jaeger, come late, has spans to be handed from the file."""


LOG_BYTES = 16 << 20
"""Bytes that a component's log may have at a start; a longer one becomes NAME.log.1."""


def put_aside(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


class Stack:
    """A stack in this process: `with Stack(home, 19000, only={"kafka"}) as stack: ...`.

    It is ready when the block is entered and gone when it is left, whatever leaves it. Ctrl-C and SIGTERM leave it
    where `ending.signals_end` turned them into exceptions. All methods may be called from any thread.
    """

    def __init__(
        self,
        home: Path,
        port_base: int = DEFAULT_PORT_BASE,
        *,
        only: frozenset[str] | set[str] | None = None,
        replicas: Mapping[str, int] | None = None,
        config: Path | None = None,
        model: str = "real",
        environment: Mapping[str, str] | None = None,
        run: Path | None = None,
        jaeger_is_coming: bool = False,
        report: Report = print_line,
    ) -> None:
        """home: the folder that was set up. run: where logs, data and state go, `home/run` by default.

        only: exactly these components, not what they need; all for None.
        config: the services' configuration file, in place of MILLPOND_CONFIG and the repository's own.
        model: "real", or "echo" for one that answers its prompt at once, and routing by rules alone.
        environment: further variables for every component, over those of this process.
        jaeger_is_coming: it is being built beside this; the stack starts it when it is there (setup/jaeger.py).
        report: called with (component, line) for whatever a person should see.
        Raises StackError for a contradiction in these.
        """
        self._home = Home(home.absolute())
        self._run = (run or self._home.run).absolute()
        self._port_base = port_base
        self._report = report
        if model not in MODELS:
            raise StackError(f"no models {model}: there are {', '.join(MODELS)}")
        self._environment = {**os.environ, **MODELS_ENVIRONMENT[model], **(environment or {})}
        if wrong := check_base(port_base, SPAN):
            raise StackError(wrong)
        self._trace_file = TraceFile(self._run / "traces.jsonl")
        try:
            chosen = None if only is None else frozenset(only)
            facts = self._facts(config, model, jaeger_is_coming=jaeger_is_coming)
            self._plan = plan(COMPONENTS, facts, port_base, chosen, replicas or {})
        except DescriptionError as failure:
            raise StackError(str(failure)) from None
        self._id = uuid.uuid4().hex
        self._phase: Phase = "starting"
        self._lock: TextIO | None = None
        self._writing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._supervisor: Supervisor | None = None

    @property
    def addresses(self) -> Addresses:
        return self._plan.addresses

    @property
    def components(self) -> tuple[str, ...]:
        """The names of the instances that are part of this stack."""
        return tuple(instance.name for instance in self._plan.instances)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until all of it is ready. On any failure nothing is left running.

        Raises AlreadyUp, PortTaken, NotSetUp or DidNotStart.
        """
        self._take_lock()
        try:
            self._clean_up()
            self._check()
            for name, note in self._plan.notes:
                self._report(name, note)
            for folder in ("logs", "data"):
                (self._run / folder).mkdir(parents=True, exist_ok=True)
            self._trace_file.begin()
            for instance in self._plan.instances:
                put_aside(self._run / "logs" / f"{instance.name}.log")
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="stack", daemon=True)
            self._thread.start()
            self._supervisor = Supervisor(
                self._id,
                self._plan.instances,
                logs=self._run / "logs",
                data=self._run / "data",
                environment=self._environment,
                report=self._report,
                changed=self._write_state,
                late=self._plan.late,
                farewells={"jaeger": self._send_traces},
            )
            # Before the first process: from here on the next start knows what to look for.
            self._write_state()
            self._call(self._supervisor.start())
            if "jaeger" in self.components:
                asyncio.run_coroutine_threadsafe(self._keep_sending_traces(), self._loop)
            self._phase = "ready"
            self._write_state()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything; nothing is left when this returns. A second Ctrl-C ends the wait: everything is killed."""
        self._phase = "stopping"
        try:
            if self._supervisor is not None:
                self._write_state()
                try:
                    self._call(self._supervisor.stop())
                except (KeyboardInterrupt, SystemExit):
                    self._call(self._supervisor.kill_all())
                    raise
        finally:
            self._supervisor = None
            if self._loop is not None and self._thread is not None:
                self._call(_end_tasks())
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = self._thread = None
            if self._lock is not None:
                (self._run / "state.json").unlink(missing_ok=True)
                self._lock.close()
                self._lock = None

    def status(self) -> Mapping[str, ComponentState]:
        """Instance → what it is doing."""
        return self._running().states()

    @property
    def processes(self) -> Mapping[int, str]:
        """Instance by the id of its process."""
        return {state.identity.pid: name for name, state in self.status().items() if state.identity}

    def kill(self, name: str) -> None:
        """SIGKILL an instance and all its processes, as a crash would; it is started again after the back-off."""
        self._call(self._running().kill(name))

    def halt(self, name: str) -> None:
        """Stop an instance and leave it stopped until `restart`."""
        self._call(self._running().halt(name))

    def restart(self, name: str) -> None:
        """Stop an instance where it runs, start it and wait until it is ready. Raises DidNotStart."""
        self._call(self._running().restart(name))

    def wait_ready(self, name: str) -> None:
        """Wait until an instance is ready: after `kill`, until its next start has come up."""
        self._call(self._running().wait_ready(name))

    def send_signal(self, name: str, signum: signal.Signals) -> None:
        """Send a signal to all processes of an instance: SIGSTOP and SIGCONT freeze and thaw it."""
        self._call(self._running().send_signal(name, signum))

    def _facts(self, config: Path | None, model: str, *, jaeger_is_coming: bool) -> Facts:
        jaeger: Literal["there", "coming", "missing"] = "missing"
        if self._home.jaeger_binary.exists():
            jaeger = "there"
        elif jaeger_is_coming:
            jaeger = "coming"
        modules = {component.module for component in COMPONENTS if component.module is not None}
        return Facts(
            places={
                "python": sys.executable,
                "models_python": str(self._home.models_python),
                "repo": str(REPOSITORY),
                "models": str(REPOSITORY / MODELS[model]),
                "data": str(self._run / "data"),
                "assets": str(self._home.assets),
                "kafka_libs": str(self._home.kafka_libs),
                "jaeger_binary": str(self._home.jaeger_binary),
                "milvus_binaries": str(self._home.milvus_binaries),
            },
            config=str(configuration(config, self._environment)),
            environment=self._environment,
            jaeger=jaeger,
            traces_file=str(self._trace_file.path),
            missing_modules=frozenset(module for module in modules if not _is_installed(module)),
        )

    def _take_lock(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        lock = (self._run / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            state = read(self._run / "state.json")
            who = f" (pid {state.supervisor.pid})" if state else ""
            raise AlreadyUp(f"a stack is up in {self._run} already{who}: ./millpond down stops it") from None
        self._lock = lock

    def _clean_up(self) -> None:
        if count := clean_up(self._run):
            self._report("stack", f"the last one was not stopped: ended {count} processes that it left")

    def _check(self) -> None:
        """Raises PortTaken or NotSetUp."""
        for path, component in (
            (self._home.kafka_libs, "kafka"),
            (self._home.models_python, "triton"),
            (self._home.models_python, "stand-in"),
            (self._home.assets, "triton"),
            (self._home.milvus_binaries, "milvus"),
        ):
            if component in self.components and not path.exists():
                raise NotSetUp(f"{component} was not set up ({path} is missing): run ./millpond up")
        if found := taken(self._plan.instances):
            raise PortTaken("\n".join(str(each) for each in found))

    def _send_traces(self) -> None:
        """Hand what the trace file still holds to Jaeger, where it is there."""
        endpoint = self.addresses.jaeger_otlp_http
        if self._supervisor is None or endpoint is None or self._supervisor.states()["jaeger"].state != "ready":
            return
        # Left for the next look, or the next start: Jaeger may be busy, or the disk full.
        with suppress(NotTaken, OSError):
            if self._trace_file.has_unsent:
                self._trace_file.send(endpoint)

    async def _keep_sending_traces(self) -> None:
        while self._supervisor is not None and self._phase != "stopping":
            await asyncio.to_thread(self._send_traces)
            await asyncio.sleep(SEND_TRACES_EVERY_S)

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise StackError("this stack is not running")
        return self._supervisor

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise StackError("this stack is not running")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    def _write_state(self) -> None:
        own = identify(os.getpid())
        if own is None or self._supervisor is None:
            return
        state = State(
            stack=self._id,
            supervisor=own,
            phase=self._phase,
            port_base=self._port_base,
            addresses=self.addresses,
            components=self._supervisor.states(),
        )
        # On a full disk the components are still watched; the next step writes again.
        with self._writing, suppress(OSError):
            write(self._run / "state.json", state)


async def _end_tasks() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def _is_installed(module: str) -> bool:
    """Whether the module could be imported; its package is imported for that, it is not."""
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(module) is not None
    return False


def free_port_base() -> int:
    """A port base for one more stack on this machine. Raises PortTaken."""
    return free_base([offset for component in COMPONENTS for offset in component.ports.values()])


def running(home: Path, *, run: Path | None = None) -> Addresses | None:
    """The addresses of the stack that is up and ready in this home, or None."""
    state = running_state(run or Home(home.absolute()).run)
    return state.addresses if state is not None and state.phase == "ready" else None


def clean_up(run: Path) -> int:
    """End what a stack that was killed left running. Returns how many processes."""
    state = read(run / "state.json")
    return end_leftovers(state) if state is not None else 0


def running_state(run: Path) -> State | None:
    """What the stack in this run folder says of itself, or None where none runs."""
    state = read(run / "state.json")
    return state if state is not None and identify(state.supervisor.pid) == state.supervisor else None
