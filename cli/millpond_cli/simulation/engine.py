"""One replica that is only computed: rows enter and leave its batch at every step, as in models/generator."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from millpond_cli.simulation.engine_profile import EngineProfile

BULK_SHARE = 1 / 6
"""As in models/generator/1/row_engine.py; a test holds the two together."""


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
    most: int
    running: list[Running] = field(default_factory=list[Running])
    queued: list[Running] = field(default_factory=list[Running])
    step_s: float = 0.0

    @property
    def has_rows(self) -> bool:
        return bool(self.running or self.queued)


class SimulatedEngine:
    """busy_s: seconds in which it worked, on what is in work. rows: given in and not done."""

    def __init__(self, environment: simpy.Environment, profile: EngineProfile) -> None:
        self._environment = environment
        self._profile = profile
        self._bulk = _Batch(profile.rows)
        self._urgent = _Batch(profile.urgent_rows) if profile.urgent_rows else self._bulk
        self._arrived = environment.event()
        self._bulk_owed_s = 0.0
        self.busy_s = 0.0
        self.work = Work()
        self.rows = 0
        self._area, self._since_s = 0.0, environment.now
        self.tokens = 0
        environment.process(self._run())

    def area(self) -> float:
        """Rows times seconds until now: of two looks, the difference by the time between them is the mean of rows."""
        return self._area + self.rows * (self._environment.now - self._since_s)

    def take(self, row: Running) -> None:
        row.taken_s = self._environment.now
        self._count(1)
        (self._urgent if row.urgent else self._bulk).queued.append(row)
        if not self._arrived.triggered:
            self._arrived.succeed()

    def _count(self, rows: int) -> None:
        self._area, self._since_s = self.area(), self._environment.now
        self.rows += rows

    def _run(self) -> Generator[Any, Any, None]:
        while True:
            batch = self._next()
            if batch is None:
                self._arrived = self._environment.event()
                yield self._arrived
                continue
            self._admit(batch)
            steps, seconds, reading = self._ahead(batch)
            began = self._environment.now
            self._arrived = self._environment.event()
            if steps > 1:
                # Many like steps at once, until one of the rows ends or another comes.
                yield self._environment.timeout(steps * seconds) | self._arrived
                passed = self._environment.now - began
                if passed < steps * seconds:
                    steps = min(int(passed / seconds) + 1, steps)
            if (rest := began + steps * seconds - self._environment.now) > 0:
                yield self._environment.timeout(rest)
            self.busy_s += steps * seconds
            batch.step_s = seconds
            self._advance(batch, steps, reading)

    def _next(self) -> _Batch | None:
        bulk, urgent = self._bulk, self._urgent
        if not urgent.has_rows or not bulk.has_rows or urgent is bulk:
            self._bulk_owed_s = 0.0
            return urgent if urgent.has_rows else bulk if bulk.has_rows else None
        if self._bulk_owed_s >= bulk.step_s > 0:
            self._bulk_owed_s -= bulk.step_s
            return bulk
        self._bulk_owed_s += urgent.step_s * BULK_SHARE / (1 - BULK_SHARE)
        return urgent

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
        both = self._bulk.has_rows and self._urgent.has_rows and self._bulk is not self._urgent
        if reading or both or not writing:
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
