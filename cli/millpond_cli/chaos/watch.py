"""What is seen while faults happen: who has what in hand, how many calls models got, when results come."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from millpond_cli import metrics_page
from millpond_cli.chaos.schedule import Fault, Step
from millpond_cli.stack import Stack

CALLERS = ("batcher", "frontier")
"""Stages that call models."""

HARMED_BY: Mapping[str, tuple[str, ...]] = {
    "batcher": ("batcher",),
    "frontier": ("frontier",),
    "triton": ("batcher",),
    # A transaction that fails is tried again with the answers that are there; a member cast out loses them.
    "kafka": CALLERS,
}
"""What is harmed → the stages whose calls may be made again for it."""

LOOK_S = 0.5
"""Between two looks, and for each: one that is frozen must not keep the look at the others, nor the next fault."""

SETTLE_S = 10.0
"""Seconds from Kafka's return until no member is cast out any more: a session, and a rebalance."""


class Watch:
    """While it is open it looks at the services' pages twice a second.

    calls_file: where an echo notes its calls; None where the services' own counters are to be added up, without those
    calls that were in flight when their caller was killed.
    """

    def __init__(self, stack: Stack, calls_file: Path | None) -> None:
        self._stack = stack
        self._calls_file = calls_file
        self._pages = {
            name: f"{url}/metrics" for name, url in stack.addresses.http.items() if name.partition("-")[0] in CALLERS
        }
        self._in_flight: dict[str, float] = dict.fromkeys(self._pages, 0.0)
        self._calls: dict[str, float] = dict.fromkeys(self._pages, 0.0)
        """Of each instance's process that runs."""
        self._calls_before = 0.0
        """Of those that ended."""
        self._processes: dict[str, object] = {}
        """Instance → which process it was when it was last ready."""
        self._away: set[str] = set()
        """Instances whose process was harmed, or ended by itself, and that are not ready again."""
        self._outage: dict[str, float] | None = None
        """The most that each instance had in hand since Kafka was harmed: what it has fetched it goes on with."""
        self._kafka_frozen = False
        """Kafka's process runs and does not do its work: from one step that says so to the next."""
        self._settled_at = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._readers = ThreadPoolExecutor(len(self._pages), "look")
        self._thread = threading.Thread(target=self._keep_looking, name="watch", daemon=True)
        self.in_flight_at_faults = 0

    def __enter__(self) -> Self:
        states = self._stack.status()
        self._processes = {name: states[name].identity for name in self._pages}
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self._readers.shutdown()
        self._close_outage()

    @property
    def model_calls(self) -> int:
        if self._calls_file is None:
            return round(self._calls_before + sum(self._calls.values()))
        return self._calls_file.read_bytes().count(b"\n") if self._calls_file.exists() else 0

    def struck(self, step: Step) -> None:
        """A fault is about to happen, or a frozen instance about to wake."""
        self._look()
        component = step.instance.partition("-")[0]
        self._count(HARMED_BY.get(component, ()))
        with self._lock:
            if component == "kafka":
                self._kafka_frozen = step.fault is Fault.FREEZE and not self._kafka_frozen
                self._close_outage()
                self._outage = dict(self._in_flight)
                self._settled_at = float("inf")
            elif component in CALLERS and step.fault is not Fault.FREEZE:
                self._away.add(step.instance)

    def _count(self, stages: Sequence[str]) -> None:
        with self._lock:
            held = [count for name, count in self._in_flight.items() if name.partition("-")[0] in stages]
            self.in_flight_at_faults += round(sum(held))

    def _keep_looking(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()
            for name in self._ended_or_back():
                self._count(HARMED_BY[name.partition("-")[0]])
            self._follow_outage()

    def _follow_outage(self) -> None:
        """Count what was in hand while Kafka was away, once every member has its place again."""
        ready = self._stack.status()["kafka"].state == "ready"
        now = time.monotonic()
        with self._lock:
            if self._outage is None:
                return
            if not ready or self._kafka_frozen:
                self._settled_at = float("inf")
            elif self._settled_at == float("inf"):
                self._settled_at = now + SETTLE_S
            elif now > self._settled_at:
                self._close_outage()

    def _close_outage(self) -> None:
        if self._outage is not None:
            self.in_flight_at_faults += round(sum(self._outage.values()))
            self._outage = None

    def _ended_or_back(self) -> list[str]:
        """Instances whose process ended by itself, for another's fault, and those that are back: partitions move."""
        states = self._stack.status()
        found: list[str] = []
        with self._lock:
            for name, before in self._processes.items():
                state = states[name]
                if state.identity == before:
                    continue
                if name not in self._away:
                    self._away.add(name)
                    found.append(name)
                elif state.state == "ready":
                    self._away.discard(name)
                    self._processes[name] = state.identity
                    found.append(name)
        return found

    def _look(self) -> None:
        read = partial(metrics_page.read, answer_s=LOOK_S)
        seen = self._readers.map(read, ([page] for page in self._pages.values()))
        for name, samples in zip(self._pages, seen, strict=True):
            with self._lock:
                # Where a page does not answer, what it said last still holds until the next process's does.
                if not samples:
                    continue
                calls = samples.total("millpond_engine_seconds_count")
                if calls < self._calls[name]:
                    self._calls_before += self._calls[name]
                self._calls[name] = calls
                self._in_flight[name] = held = samples.total("millpond_in_flight")
                if self._outage is not None:
                    self._outage[name] = max(self._outage[name], held)


class Arrivals:
    """When a reader of ai.results saw something new: what it had to wait for at the longest."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last = time.monotonic()

    def look(self, *, new: bool, due: bool) -> None:
        now = time.monotonic()
        if due:
            self.longest_s = max(self.longest_s, now - self._last)
        if new or not due:
            self._last = now
