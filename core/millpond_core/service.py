"""How a service's process begins and ends.

    def main() -> None:
        run("millpond-batcher", BatcherSettings, serve)

    async def serve(settings: BatcherSettings, runtime: Runtime) -> None:
        runtime.ready("kafka", False, "not assigned yet")
        ids = await runtime.unless_stopping(await_topics(settings, topics, runtime.ready))
        …
        await runtime.stopping.wait()
        … finish what is held, within settings.drain_s

Exit status: 0 after a clean end, 1 after an exception or a drain that took too long, 2 for a wrong setting. Kafka gives
what was not finished to the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from millpond_core.clock import Clock, SystemClock
from millpond_core.health import Readiness, serving
from millpond_core.logs import start_logging
from millpond_core.processor import Fenced
from millpond_core.settings import Settings, WrongSetting, load
from millpond_core.telemetry import Tracing, start_tracing
from millpond_core.topic_admin import TopicsDiffer

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

GRACE_S = 5.0
"""Beyond drain_s, for spans to go out and connections to close, before the process is ended as it is."""


class Stopped(Exception):
    """The service was told to stop while it waited for something. `run` ends cleanly on it."""


@dataclass
class Runtime:
    """What a running service is given."""

    tracing: Tracing
    http_port: int
    clock: Clock = field(default_factory=SystemClock)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by SIGTERM or SIGINT: take no more, finish what is held."""
    readiness: Readiness = field(default_factory=Readiness)
    crash: BaseException | None = None
    """What `crashed` was told first."""
    _crashing: asyncio.Event = field(default_factory=asyncio.Event)

    def crashed(self, failure: BaseException) -> None:
        """An exception that no request may raise, of work that nobody awaits: the process ends with it."""
        self.crash = self.crash or failure
        self._crashing.set()

    async def unless_crashed(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives. Cancels it, and raises what `crashed` was told, when that comes before."""
        working = asyncio.ensure_future(work)
        crashing = asyncio.ensure_future(self._crashing.wait())
        try:
            await asyncio.wait((working, crashing), return_when=asyncio.FIRST_COMPLETED)
            if self.crash is None:
                return await working
            raise self.crash
        finally:
            working.cancel()
            crashing.cancel()
            # What the work closes on its way out is closed before the process ends.
            await asyncio.wait((working,))

    def ready(self, name: str, ready: bool, reason: str = "") -> None:
        """Name everything that is needed as not ready first: /readyz says 200 once all that was named is."""
        self.readiness.set(name, ready, reason)

    async def unless_stopping(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives. Raises Stopped, and cancels it, when the service is told to stop before."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopped
            return await working
        finally:
            working.cancel()
            stopped.cancel()


Main = Callable[[S, Runtime], Coroutine[Any, Any, None]]


def run(service: str, settings_class: type[S], main: Main[S]) -> NoReturn:
    """Run `main` until it returns, with logs, traces, health pages and signals around it; then exit."""
    settings = load(settings_class, service)
    start_logging(service, settings.log_level)
    try:
        tracing = start_tracing(
            service,
            otlp_endpoint=settings.otlp_endpoint,
            traces_file=settings.traces_file,
            instance=str(settings.replica),
        )
    except OSError as failure:
        print(f"{service}: MILLPOND_TRACES_FILE: cannot be written: {failure}", file=sys.stderr)
        sys.exit(2)
    status = asyncio.run(_run(service, settings, tracing, main))
    if status:
        # At once: a thread that hangs in a library would keep a crashed process from being started again.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(0)


async def _run(service: str, settings: S, tracing: Tracing, main: Main[S]) -> int:
    readiness = Readiness()
    try:
        async with serving(readiness, settings.http_host, settings.http_port) as port:
            runtime = Runtime(tracing, port, readiness=readiness)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, _stop, runtime, settings.drain_s)
            log.info("started", extra={"http_port": port, "replica": settings.replica})
            await runtime.unless_crashed(main(settings, runtime))
    except (WrongSetting, TopicsDiffer) as failure:
        print(f"{service}: {failure}", file=sys.stderr)
        return 2
    except Stopped:
        pass
    except Fenced as failure:
        # No traceback: nothing is wrong with the code, and a new process goes on where this one ends.
        log.error("ended, to be started again: %s", failure)  # noqa: TRY400
        return 1
    except Exception:
        log.exception("crashed")
        return 1
    finally:
        await asyncio.to_thread(tracing.close)
    log.info("stopped")
    return 0


def _stop(runtime: Runtime, drain_s: float) -> None:
    if runtime.stopping.is_set():
        return
    log.info("stopping", extra={"drain_s": drain_s})
    runtime.ready("service", False, "stopping")
    runtime.stopping.set()
    # A thread, since the loop itself may be what hangs.
    deadline = threading.Timer(drain_s + GRACE_S, _give_up)
    deadline.daemon = True
    deadline.start()


def _give_up() -> None:
    log.error("not drained in time: ended as it is, Kafka gives the rest to the next")
    os._exit(1)
