"""`./millpond bench backlog`"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import Producer
from rich.console import Console

from millpond.v1 import result_pb2
from millpond_cli import metrics_page, stack
from millpond_cli.client import Results
from millpond_cli.commands.options import PortBase
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import percentile, show_targets, target, writable, write
from millpond_cli.here import settings_of
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.stack import COMPONENTS, Stack
from millpond_core import topics
from millpond_core.settings import Settings

SERVICES = tuple(component.name for component in COMPONENTS if component.is_service)

WARM = 200
"""Requests before the first look at memory: connections and buffers of everyday use are no growth."""

SHORT, SHORT_S = 50, 20.0
"""Requests behind the backlog that are due so many seconds after they were sent."""

REALTIME, REALTIME_EVERY_S = 100, 0.1
"""Requests of the realtime tier, and the seconds between two of them, while the backlog is worked off."""

GROWTH_MB = 150.0
LATE_S = 2.0
"""What is allowed: law 5's growth of each service, and law 4's delay of an `expired`."""

LOOK_S = 0.25

STALL_S = 600.0
"""Until something that must come is missed: a hang's bound."""

TEXT = "What is a mill pond for? " * 20
"""500 bytes: a question with some context."""


def backlog(
    requests: Annotated[int, typer.Option(min=1000, metavar="N", help="How many wait.")] = 200_000,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """What a backlog costs: memory of each service, deadlines behind it, and realtime requests beside it.

    The requests come in by ai.requests while no model answers. An echo is in the models' place.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    only = {component.name for component in COMPONENTS} - {"jaeger"}
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        Stack(place.root, port_base, only=only, model="echo", run=Path(folder)) as running,
        Reader(settings_of(running.addresses)) as reader,
    ):
        figures = measured(running, reader, requests)
        machine = environment(place, running.addresses.triton_http)
    show_targets(Console(), figures["targets"])
    write(json_file, {**figures, "environment": machine})


@dataclass
class Reader:
    """Reads ai.results in a thread. results: by id, with the time (since 1970) at which each was read."""

    settings: Settings
    results: dict[str, tuple[result_pb2.Result, float]] = field(
        default_factory=dict[str, tuple[result_pb2.Result, float]]
    )
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Reader:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        with Results(self.settings) as reader:
            while not self._over.is_set():
                now_or_later = reader.take(LOOK_S)
                now = time.time()
                self.results.update({result.id: (result, now) for result in now_or_later})


def measured(running: Stack, reader: Reader, requests: int) -> dict[str, Any]:
    settings = reader.settings
    send = sender(settings)
    send(topics.REQUESTS, [body(f"warm-{number}", "standard") for number in range(WARM)])
    until(lambda: len(reader.results) >= WARM, "the first requests have no result")
    idle = resident_mb(running)
    running.halt("triton")

    with peak_of(running) as peak:
        began = time.monotonic()
        send(topics.REQUESTS, [body(f"long-{number}", "standard") for number in range(requests)])
        late = {"behind what is not routed yet": lateness(reader, send, "early")}
        until(lambda: passed_on(running) >= WARM + requests + SHORT, "the requests do not reach the batcher")
        gathered_s = time.monotonic() - began
        late["behind what waits for a model"] = lateness(reader, send, "short")
        send(topics.REQUESTS, [body("unwanted", "standard")])
        until(lambda: passed_on(running) > WARM + requests + 2 * SHORT, "the last request does not reach the batcher")
        said = time.time()
        send(topics.CONTROL, [b'{"cancel": {"id": "unwanted"}}'])
        until(lambda: "unwanted" in reader.results, "what was cancelled has no result")
        cancelled_s = reader.results["unwanted"][1] - said
    running.restart("triton")

    realtime: dict[str, float] = {}
    for number in range(REALTIME):
        id = f"now-{number}"
        realtime[id] = time.time()
        send(topics.REQUESTS, [body(id, "realtime")])
        time.sleep(REALTIME_EVERY_S)
    answered = sum(id.startswith("long-") for id in tuple(reader.results))
    until(lambda: realtime.keys() <= reader.results.keys(), "realtime requests have no result")
    took_ms = [(reader.results[id][1] - at) * 1000 for id, at in realtime.items()]
    growth = {name: round(peak[name] - idle[name], 1) for name in SERVICES}
    return {
        "requests": requests,
        "gathered_s": round(gathered_s, 1),
        "resident_mb": {name: {"idle": round(idle[name], 1), "peak": round(peak[name], 1)} for name in SERVICES},
        "expired_late_s": {
            where: {"requests": len(each), "median": round(percentile(each, 0.5), 2), "most": round(max(each), 2)}
            for where, each in late.items()
        },
        "cancelled_after_s": round(cancelled_s, 2),
        "realtime_ms": {"p50": round(percentile(took_ms, 0.5), 1), "p95": round(percentile(took_ms, 0.95), 1)},
        "waiting_beside_realtime": requests - answered,
        "targets": [
            *(target(f"{name}: growth of memory", growth[name], "MB", GROWTH_MB, "lower") for name in SERVICES),
            *(
                target(f"latest `expired` after its deadline, {where}", round(max(each), 2), "s", LATE_S, "lower")
                for where, each in late.items()
            ),
        ],
    }


def lateness(reader: Reader, send: Callable[[str, Sequence[bytes]], None], word: str) -> list[float]:
    """Seconds from their deadline to the result of requests that nobody can serve. Raises CommandError."""
    ids = [f"{word}-{number}" for number in range(SHORT)]
    due = time.time() + SHORT_S
    send(topics.REQUESTS, [body(id, "standard", due) for id in ids])
    until(lambda: all(id in reader.results for id in ids), "short deadlines have no result")
    if wrong := [id for id in ids if reader.results[id][0].status != result_pb2.STATUS_EXPIRED]:
        raise CommandError(f"{wrong[0]} has a result that is not `expired`, and no model runs", 1)
    return [reader.results[id][1] - due for id in ids]


def body(id: str, tier: str, due: float | None = None) -> bytes:
    """due: seconds since 1970."""
    request: dict[str, Any] = {
        "id": id,
        "tier": tier,
        "model": "small",
        "messages": [{"role": "user", "content": f"{id}: {TEXT}"}],
        "params": {"max_tokens": 32, "temperature": 0},
        "cache": {"mode": "bypass"},
    }
    if due is not None:
        request["deadline"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1000):03d}Z"
    return orjson.dumps(request)


def sender(settings: Settings) -> Callable[[str, Sequence[bytes]], None]:
    """Writes records and waits until Kafka has them. Raises CommandError."""
    producer = Producer(settings.kafka_client({"partitioner": "murmur2_random", "linger.ms": 5}))

    def send(topic: str, values: Sequence[bytes]) -> None:
        for value in values:
            while True:
                try:
                    producer.produce(topic, value)
                    break
                except BufferError:
                    producer.poll(LOOK_S)
        if producer.flush(STALL_S):
            raise CommandError("Kafka takes no records", 1)

    return send


def passed_on(running: Stack) -> int:
    """Requests that the cache has sent on to the batcher."""
    page = f"{running.addresses.http['cache']}/metrics"
    return int(metrics_page.read([page]).total("millpond_records_finished_total"))


def until(met: Callable[[], bool], otherwise: str) -> None:
    """Raises CommandError."""
    end = time.monotonic() + STALL_S
    while not met():
        if time.monotonic() > end:
            raise CommandError(f"{otherwise} after {STALL_S:.0f} s", 1)
        time.sleep(LOOK_S)


def resident_mb(running: Stack) -> Mapping[str, float]:
    """Of each service's process."""
    found: dict[str, float] = {}
    for name in SERVICES:
        identity = running.status()[name].identity
        if identity is None:
            raise CommandError(f"{name} does not run", 1)
        pages = int(Path(f"/proc/{identity.pid}/statm").read_text().split()[1])
        found[name] = pages * 4096 / 1e6
    return found


@contextmanager
def peak_of(running: Stack) -> Generator[dict[str, float]]:
    """The most that each service had while this was open."""
    peak = dict.fromkeys(SERVICES, 0.0)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            for name, now in resident_mb(running).items():
                peak[name] = max(peak[name], now)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
