"""One process of a model in a Triton, as its lane sees it: whether it answers, and what runs there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from millpond.v1 import request_pb2
from millpond_batcher.engine import Engine
from millpond_batcher.limit import Limit
from millpond_batcher.revival import Revival


@dataclass(eq=False)
class Replica:
    """name: its model's in Triton, and where. urgent: whether it is for urgent rows alone.

    running: how many rows of each tier run there; tokens: of these rows.
    apart: they are suspects, and nothing else is to run with them.
    """

    engine: Engine
    revival: Revival
    limit: Limit
    name: str
    urgent: bool = False
    running: Counter[request_pb2.Tier] = field(default_factory=Counter[request_pb2.Tier])
    tokens: int = 0
    apart: bool = False
    reviving: asyncio.Task[None] | None = None

    _area: float = 0.0
    _since_s: float = field(default_factory=monotonic)

    @property
    def rows(self) -> int:
        return self.running.total()

    def take(self, tier: request_pb2.Tier, tokens: int) -> None:
        """Count a row that begins."""
        self._area, self._since_s = self.area(), monotonic()
        self.running[tier] += 1
        self.tokens += tokens

    def give_back(self, tier: request_pb2.Tier, tokens: int) -> None:
        """Count a row that ended."""
        self._area, self._since_s = self.area(), monotonic()
        self.running[tier] -= 1
        self.tokens -= tokens

    def area(self) -> float:
        """Rows times seconds until now: of two looks, the difference by the time between them is the mean of rows."""
        return self._area + self.rows * (monotonic() - self._since_s)

    @property
    def answers(self) -> bool:
        return self.reviving is None

    @property
    def free(self) -> int:
        return self.limit.rows - self.rows

    def revive(self, answers: Callable[[], None], crashed: Callable[[BaseException], None]) -> None:
        """Give it no rows until it answers. answers, crashed: told of either."""
        if self.reviving is not None:
            return
        self.reviving = asyncio.create_task(self.revival.answering())

        def over(task: asyncio.Task[None]) -> None:
            self.reviving = None
            if task.cancelled():
                return
            if failure := task.exception():
                crashed(failure)
            else:
                answers()

        self.reviving.add_done_callback(over)
