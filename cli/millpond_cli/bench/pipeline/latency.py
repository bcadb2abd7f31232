"""How long one realtime request takes from ai.requests to its result, alone and while bulk work flows."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from millpond_cli.client import Requests, Results
from millpond_cli.errors import CommandError
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing

PROBES = 40
"""Realtime requests of one round, one after the other."""

WARMING = 60
"""Requests before the first that counts: every partition, connection and cache has been used by then."""

PATIENCE_S = 60.0
"""In which a request must have its result."""

BULK_PER_S = 200
"""Standard requests that flow beside the realtime ones: half of what one router does on two busy cores, or less."""

BULK_EVERY_S = 0.1

PAUSE_S = 0.01
"""Between two realtime requests."""

_numbers = itertools.count()


class Probe:
    """Sends realtime requests to a stack and waits for each one's result."""

    def __init__(self, settings: Settings, tracing: Tracing) -> None:
        self._settings = settings
        self._tracing = tracing

    def warm(self) -> None:
        """Raises CommandError, as the others do, where a result does not come."""
        self.latencies(WARMING)
        self.latencies_beside_bulk(WARMING)

    def latencies(self, count: int = PROBES) -> Sequence[float]:
        """In milliseconds."""
        with Results(self._settings) as results, Requests(self._settings, self._tracing) as requests:
            return [_probe(requests, results) for _ in range(count)]

    def latencies_beside_bulk(self, count: int = PROBES) -> Sequence[float]:
        with self._bulk():
            return self.latencies(count)

    @contextmanager
    def _bulk(self) -> Generator[None]:
        """Standard requests flow inside of this, since a while when it is entered; all are answered when it is left."""
        ended, flows = threading.Event(), threading.Event()
        waiting: set[str] = set()

        def send() -> None:
            with Requests(self._settings, self._tracing) as requests:
                for turn in itertools.count():
                    for _ in range(int(BULK_PER_S * BULK_EVERY_S)):
                        waiting.add(_send(requests, "standard"))
                    if turn == int(1 / BULK_EVERY_S):
                        flows.set()
                    if ended.wait(BULK_EVERY_S):
                        return

        sender = threading.Thread(target=send, name="bulk")
        with Results(self._settings) as results:
            sender.start()
            flows.wait()
            try:
                yield
            finally:
                ended.set()
                sender.join()
            until = time.monotonic() + PATIENCE_S
            while waiting:
                taken = results.take(max(until - time.monotonic(), 0))
                if not taken:
                    raise CommandError(f"{len(waiting)} standard requests have no result after {PATIENCE_S:.0f} s", 1)
                waiting.difference_update(result.id for result in taken)


def _probe(requests: Requests, results: Results) -> float:
    time.sleep(PAUSE_S)
    began = time.monotonic()
    id = _send(requests, "realtime")
    while (left_s := began + PATIENCE_S - time.monotonic()) > 0:
        for result in results.take(left_s):
            if result.id == id:
                return (time.monotonic() - began) * 1000
    raise CommandError(f"{id} has no result after {PATIENCE_S:.0f} s", 1)


def _send(requests: Requests, tier: str) -> str:
    number = next(_numbers)
    id = f"bench-{tier}-{time.time_ns()}-{number}"
    request = {
        "id": id,
        "tier": tier,
        "messages": [{"role": "user", "content": f"How high did the water stand at the mill on day {number}?"}],
    }
    requests.send(json.dumps(request).encode(), f"default/{id}".encode())
    return id
