"""One run: a stack of its own, a load, faults, and what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from millpond.v1 import result_pb2
from millpond_cli import kafka_lag
from millpond_cli.chaos.faults import Faults
from millpond_cli.chaos.load import Sending, load
from millpond_cli.chaos.report import Course
from millpond_cli.chaos.schedule import SERVICES, Step, schedule
from millpond_cli.chaos.sending import Senders
from millpond_cli.chaos.verify import DeadLetter, Findings, longest_stall_s, verify
from millpond_cli.chaos.watch import Arrivals, Watch
from millpond_cli.client import Results, result_in
from millpond_cli.environment import environment as measured_on
from millpond_cli.errors import CommandError
from millpond_cli.here import settings_of
from millpond_cli.setup.home import Home
from millpond_cli.stack import COMPONENTS, Stack
from millpond_cli.topic_reader import everything_on
from millpond_core import topics
from millpond_core.dead_letter import PREFIX
from millpond_core.settings import Settings

STALL_S = 180.0
"""Without a new result for so long, no more are waited for: far beyond any back-off of a supervisor or a client."""

SETTLE_S = 60.0
"""Seconds at most for what is no request's first copy to be dropped: then all that was read is committed."""

LOOK_S = 0.2

WITHOUT = frozenset({"jaeger"})
"""Components that are no part of it: on a small machine spans of every request cost more than they tell here."""

QUICK = {
    # A stall is to be the stage's, not a window's that waits to be full.
    "MILLPOND_BATCHER__OVERNIGHT_WAIT_S": "2",
    # Each milestone of a recovery is in the services' logs.
    "MILLPOND_LOG_LEVEL": "info",
}


@dataclass(frozen=True)
class Plan:
    """model: "echo" or "real". replicas: of each service. load_s: seconds of the load; None: as long as the faults."""

    requests: int
    kills: int
    seed: int
    model: str = "echo"
    replicas: int = 1
    load_s: float | None = None


Trouble = Callable[[Stack, Callable[[Step], None]], None]
"""Harm of another kind, to a stack under load. It tells of what it is about to do, or has just done, as of a step."""


@dataclass(frozen=True)
class Outcome:
    found: Findings
    course: Course
    environment: Mapping[str, Any]


def run_chaos(
    home: Home,
    run: Path,
    port_base: int,
    plan: Plan,
    report: Callable[[str], None],
    *,
    steps: Sequence[Step] | None = None,
    trouble: Trouble | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """run: a folder for the stack's data and logs.

    steps: in place of the seed's. trouble: made beside them, in a thread of its own.
    environment: further variables for every component. Raises StackError and CommandError.
    """
    steps = schedule(plan.kills, plan.seed, plan.replicas) if steps is None else steps
    sendings = load(plan.requests, plan.seed)
    calls_file = run / "model-calls" if plan.model == "echo" else None
    variables = {**QUICK, **(environment or {}), **({"MILLPOND_ECHO_CALLS": str(calls_file)} if calls_file else {})}
    stack = Stack(
        home.root,
        port_base,
        only={component.name for component in COMPONENTS} - WITHOUT,
        replicas=dict.fromkeys(SERVICES, plan.replicas),
        model=plan.model,
        environment=variables,
        run=run,
        report=lambda name, line: report(f"{name}: {line.splitlines()[0]}"),
    )
    with stack:
        settings = settings_of(stack.addresses)
        report(f"{len(sendings)} records to send, {len(steps)} faults to come")
        with Watch(stack, calls_file) as watch:
            faults = Faults(stack, steps, watch.struck, report)
            progress = time_passing(plan.load_s) if plan.load_s else lambda: faults.progress
            senders = Senders(settings, sync_tier(stack), sendings, progress)
            own = None if trouble is None else lambda: trouble(stack, watch.struck)
            ran = _Run(settings, senders, faults, own, report)
            ran.go()
        figures = measured_on(home, stack.addresses.triton_http)
        found = verify(
            ran.senders.accepted,
            ran.senders.doubtful,
            [result_in(message) for message in everything_on(settings, topics.RESULTS)],
            [dead_letter_in(message) for message in everything_on(settings, topics.DEADLETTER)],
            echoes=plan.model == "echo",
        )
        course = Course(
            kills=ran.faults.kills,
            model_calls=watch.model_calls,
            in_flight_at_kills=watch.in_flight_at_faults,
            asked_again=ran.senders.again,
            longest_stall_s={**stalls(settings, sendings), "results": round(ran.arrivals.longest_s, 2)},
            wall_s=ran.wall_s,
        )
        return Outcome(found, course, figures)


class _Run:
    def __init__(
        self,
        settings: Settings,
        senders: Senders,
        faults: Faults,
        trouble: Callable[[], None] | None,
        report: Callable[[str], None],
    ) -> None:
        self.senders = senders
        self.faults = faults
        self._trouble = trouble
        self._settings = settings
        self._report = report
        self.arrivals = Arrivals()
        self.wall_s = 0.0
        self._seen: set[tuple[str, str]] = set()
        self._failures: list[BaseException] = []

    def go(self) -> None:
        """Until every request has its result, or none came for a long time. Raises what ended one of its threads."""
        began = time.monotonic()
        works = {"load": self.senders.run, "faults": self.faults.run}
        if self._trouble is not None:
            works["trouble"] = self._trouble
        threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True) for name, work in works.items()
        ]
        with Results(self._settings, from_beginning=True) as results:
            for thread in threads:
                thread.start()
            last = time.monotonic()
            said = last
            while not self._failures:
                new = [each for each in _taken(results) if (each.tenant, each.id) not in self._seen]
                self._seen.update((each.tenant, each.id) for each in new)
                now = time.monotonic()
                if new:
                    last, self.wall_s = now, now - began
                due = self._due() - self._seen
                self.arrivals.look(new=bool(new), due=bool(due))
                if now - said > 10:
                    said = now
                    self._report(f"{now - began:6.0f} s  {self.senders.sent} sent, {len(self._seen)} answered")
                busy = any(thread.is_alive() for thread in threads)
                if not busy and (not due or now - last > STALL_S):
                    break
        if self._failures:
            raise CommandError(f"the run broke off: {self._failures[0]!r}", 1)
        self._settle()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            self._failures.append(failure)

    def _due(self) -> set[tuple[str, str]]:
        return {(each.tenant, each.id) for each in self.senders.accepted if each.kind in ("request", "copy")}

    def _settle(self) -> None:
        """Wait until nothing is behind: a result beyond the first could still come."""
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            try:
                if not any(lag.records for lag in kafka_lag.lags(self._settings)):
                    return
            except KafkaException:
                pass
            time.sleep(LOOK_S)


def time_passing(seconds: float) -> Callable[[], float]:
    """The share of so many seconds that has passed since now."""
    began = time.monotonic()
    return lambda: min((time.monotonic() - began) / seconds, 1.0)


def sync_tier(stack: Stack) -> Sequence[str]:
    """Where each replica of frontier serves it, host:port."""
    host, _, port = stack.addresses.frontier_grpc.rpartition(":")
    replicas = sum(name.partition("-")[0] == "frontier" for name in stack.components)
    return [f"{host}:{int(port) + number}" for number in range(replicas)]


def _taken(results: Results) -> Sequence[result_pb2.Result]:
    """What is there; nothing where Kafka is being started again, after which the reader goes on."""
    try:
        return results.take(LOOK_S)
    except CommandError:
        return ()


def dead_letter_in(message: Any) -> DeadLetter:
    headers = dict(message.headers() or ())
    reason = (headers.get(f"{PREFIX}reason") or b"").decode()
    return DeadLetter(reason, message.key() or b"", message.value() or b"")


def stalls(settings: Settings, sendings: Sequence[Sending]) -> dict[str, float]:
    """Of each stage, by the times at which its records were written."""

    def times(*names: str) -> list[float]:
        return [message.timestamp()[1] / 1000 for message in everything_on(settings, *names)]

    sync = {each.key for each in sendings if each.sync}
    answered: dict[int, list[float]] = {result_pb2.ROUTE_SMALL: [], result_pb2.ROUTE_FRONTIER: []}
    for message in everything_on(settings, topics.RESULTS):
        result = result_in(message)
        if result.served_by.route in answered and message.key() not in sync:
            answered[result.served_by.route].append(message.timestamp()[1] / 1000)
    batches = (topics.BATCH_REALTIME, topics.BATCH_STANDARD, topics.BATCH_OVERNIGHT)
    return {
        "router": longest_stall_s(times(topics.REQUESTS), times(topics.ROUTED)),
        "cache": longest_stall_s(times(topics.ROUTED), times(topics.CLAIMS)),
        "batcher": longest_stall_s(times(*batches), answered[result_pb2.ROUTE_SMALL]),
        "frontier": longest_stall_s(times(topics.FRONTIER), answered[result_pb2.ROUTE_FRONTIER]),
    }
