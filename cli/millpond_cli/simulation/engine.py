"""One replica that is only computed: rows enter and leave its batch at every step, as in models/generator."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from millpond_cli.simulation.engine_profile import EngineProfile

BULK_SHARE = 110 / (110 + 1024)
"""Of the processor, for the other rows while urgent ones run: Linux weighs a thread of nice 10, as models/generator is,
with 110 beside 1024 (sched_prio_to_weight in kernel/sched/core.c)."""


LEAST_S = 1e-6
"""Less is done: time in floats near 1.7e9 has steps of a quarter of a microsecond."""


@dataclass(eq=False)
class Running:
    """A row in the engine. left: tokens of its answer; unread: of its prompt. done: called with it when it is written.

    taken_s: when the engine had it. first_token_s: from then on to its first token.
    """

    unread: int
    left: int
    urgent: bool
    done: Callable[[Running], None]
    taken_s: float = 0.0
    first_token_s: float = 0.0


@dataclass
class Work:
    """row_steps: rows that wrote a token, summed over the steps."""

    steps: int = 0
    row_steps: int = 0
    prompt_tokens: int = 0


@dataclass
class _Batch:
    """Rows that run together. share: of the processor, what its step has. arrived: a row came, to this batch or to the
    other; changed: share is another."""

    most: int
    arrived: simpy.Event
    changed: simpy.Event
    share: float = 0.0
    running: list[Running] = field(default_factory=list[Running])
    queued: list[Running] = field(default_factory=list[Running])

    @property
    def has_rows(self) -> bool:
        return bool(self.running or self.queued)


class SimulatedEngine:
    """busy_s: seconds in which it worked, on what is in work. rows: given in and not done."""

    def __init__(self, environment: simpy.Environment, profile: EngineProfile) -> None:
        self._environment = environment
        self._profile = profile
        self._bulk = self._batch(profile.rows)
        self._urgent = self._batch(profile.urgent_rows) if profile.urgent_rows else self._bulk
        self.busy_s = 0.0
        self.work = Work()
        self.rows = 0
        self._area, self._since_s = 0.0, environment.now
        self.tokens = 0
        environment.process(self._run(self._bulk))
        if self._urgent is not self._bulk:
            environment.process(self._run(self._urgent))

    def _batch(self, most: int) -> _Batch:
        return _Batch(most, self._environment.event(), self._environment.event())

    def area(self) -> float:
        """Rows times seconds until now: of two looks, the difference by the time between them is the mean of rows."""
        return self._area + self.rows * (self._environment.now - self._since_s)

    def take(self, row: Running) -> None:
        row.taken_s = self._environment.now
        self._count(1)
        (self._urgent if row.urgent else self._bulk).queued.append(row)
        for batch in (self._urgent, self._bulk):
            if not batch.arrived.triggered:
                batch.arrived.succeed()

    def _count(self, rows: int) -> None:
        self._area, self._since_s = self.area(), self._environment.now
        self.rows += rows

    def _run(self, batch: _Batch) -> Generator[Any, Any, None]:
        while True:
            if not batch.has_rows:
                batch.arrived = self._environment.event()
                yield batch.arrived
                continue
            self._admit(batch)
            steps, seconds, reading = self._ahead(batch)
            if steps > 1:
                # Many like steps at once, until one of the rows ends or another comes.
                began = self._environment.now
                batch.arrived = self._environment.event()
                yield self._environment.timeout(steps * seconds) | batch.arrived
                passed = self._environment.now - began
                if passed < steps * seconds:
                    steps = min(int(passed / seconds) + 1, steps)
                yield from self._work(batch, steps * seconds - passed)
            else:
                yield from self._work(batch, seconds)
            self.busy_s += steps * seconds
            self._advance(batch, steps, reading)

    def _work(self, batch: _Batch, seconds: float) -> Generator[Any, Any, None]:
        """Spend so many seconds of the whole processor, of which the urgent rows have the most."""
        if batch is self._urgent:
            self._change(batch, 1 - BULK_SHARE if self._shares else 1.0)
            yield self._environment.timeout(max(seconds, 0.0) / batch.share)
            self._change(batch, 0.0)
            return
        while seconds > LEAST_S:
            began, share = self._environment.now, 1 - self._urgent.share
            changed = self._urgent.changed
            yield changed | self._environment.timeout(seconds / share) if share else changed
            seconds -= (self._environment.now - began) * share

    def _change(self, batch: _Batch, share: float) -> None:
        batch.share = share
        batch.changed.succeed()
        batch.changed = self._environment.event()

    @property
    def _shares(self) -> bool:
        """Whether both batches have rows."""
        return self._bulk is not self._urgent and self._bulk.has_rows and self._urgent.has_rows

    def _admit(self, batch: _Batch) -> None:
        free = batch.most - len(batch.running)
        if free > 0 and batch.queued:
            batch.running += batch.queued[:free]
            del batch.queued[:free]

    def _ahead(self, batch: _Batch) -> tuple[int, float, Sequence[tuple[Running, int]]]:
        """(steps that are alike, seconds of one, what is read of whose prompt in it)."""
        writing = [row for row in batch.running if not row.unread]
        room = max(self._profile.batched_tokens - len(writing), 0)
        reading: list[tuple[Running, int]] = []
        for row in batch.running:
            if row.unread and room:
                part = min(row.unread, room)
                reading.append((row, part))
                room -= part
        seconds = self._profile.seconds(len(writing), sum(part for _, part in reading))
        if reading or self._shares or not writing:
            return 1, seconds, reading
        return min(row.left for row in writing), seconds, reading

    def _advance(self, batch: _Batch, steps: int, reading: Sequence[tuple[Running, int]]) -> None:
        read = dict(reading)
        ended: list[Running] = []
        self.work.steps += steps
        self.work.prompt_tokens += sum(read.values())
        for row in batch.running:
            if not row.unread:
                row.left -= steps
                self.tokens += steps
                self.work.row_steps += steps
            elif part := read.get(row):
                row.unread -= part
                # The step that reads the last of the prompt writes the first token.
                if not row.unread:
                    row.first_token_s = self._environment.now - row.taken_s
                    row.left -= 1
                    self.tokens += 1
            if not row.unread and row.left <= 0:
                ended.append(row)
        if ended:
            gone = set(ended)
            batch.running = [row for row in batch.running if row not in gone]
            self._count(-len(ended))
            for row in ended:
                row.done(row)
