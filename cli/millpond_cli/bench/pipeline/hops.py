"""Throughput of the hops and of what they are held to, on one Kafka, in turn."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from millpond_cli.bench.rounds import Series, interleaved
from millpond_cli.configuration import SHIPPED
from millpond_cli.errors import CommandError
from millpond_cli.setup.leash import leashed
from millpond_cli.stack import Addresses
from millpond_core import topics
from millpond_core.settings import FILE_VARIABLE, PREFIX
from millpond_core.topics import TOPICS

RECORDS = 8000
"""Measured in one run: a second or more of the slowest contender, so that a pause of the machine is no outlier."""

PARTITIONS = 4
"""As the stack's topics have."""

WARM = 0.1
"""Share of a run's first records that are left out: connections and caches are being made."""

SLICES = 3
"""Of one run, each with a rate of its own: each has several transactions, whose records come all at once."""

PATIENCE_S = 60.0
"""Seconds in which a contender must be through."""

END_S = 10.0
"""Seconds that a contender has to end before it is killed: services leave their group."""

LOOK_S = 0.05

LAST_CHARACTERS = 2000
"""Of a contender's log, where it failed."""

LOOP_COPY = "bench.loop"
FAUST_COPIES = {"noack_take": "bench.faust.noack_take", "plain": "bench.faust.plain"}
COPIES = (LOOP_COPY, *FAUST_COPIES.values())
"""What bare contenders write to."""

TEXT = (
    "The mill pond was dug before the mill itself, since a wheel that waits for rain grinds nothing. Note {number} of "
    "the miller's says how high the water stood, how long the sluice was open, and what was ground that day. "
    "Summarise the note in one sentence, and name the day."
)


class Contest:
    """Kafka with the topics, and contenders that come and go. A contender's rate is told by what it has written."""

    def __init__(self, addresses: Addresses, folder: Path) -> None:
        """addresses: of a stack that runs Kafka, and Jaeger where there is one. folder: for logs and state.

        The topics are made here, all with the broker's time of appending.
        """
        self._kafka = addresses.kafka
        self._otlp = addresses.otlp
        self._folder = folder
        self._numbers = itertools.count()
        self._groups = itertools.count()
        self._reader = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": "bench-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        stamped = {"message.timestamp.type": "LogAppendTime"}
        admin = AdminClient({"bootstrap.servers": self._kafka})
        made = admin.create_topics(
            [
                *(NewTopic(topic.name, PARTITIONS, 1, config={**topic.config, **stamped}) for topic in TOPICS),
                *(NewTopic(name, PARTITIONS, 1, config=stamped) for name in COPIES),
            ]
        )
        for future in made.values():
            future.result()

    def close(self) -> None:
        self._reader.close()

    def measure(self, rounds: int) -> dict[str, Series]:
        """Records per second by contender. Raises CommandError for one that does not come through."""
        return interleaved(
            {
                "router": lambda: self._routed(RECORDS, traced=False),
                "bare Faust, noack_take": lambda: self._bare_faust("noack_take"),
                "bare Faust, plain": lambda: self._bare_faust("plain"),
                "cache hop": lambda: self._hop("cache", topics.BATCH_STANDARD, RECORDS, traced=False),
                "bare loop": self._bare_loop,
                "batcher hop": lambda: self._hop("batcher", topics.RESULTS, RECORDS, traced=False),
                "router, traced": lambda: self._routed(RECORDS, traced=True),
                "cache hop, traced": lambda: self._hop("cache", topics.BATCH_STANDARD, RECORDS, traced=True),
                "batcher hop, traced": lambda: self._hop("batcher", topics.RESULTS, RECORDS, traced=True),
            },
            rounds,
        )

    # The contenders

    def _routed(self, count: int, *, traced: bool) -> Sequence[float]:
        self._send(count)
        return self._run("millpond_router", (), topics.ROUTED, count, self._settings("router", traced=traced))

    def _hop(self, stage: str, target: str, count: int, *, traced: bool) -> Sequence[float]:
        return self._run(
            "millpond_cli.bench.pipeline.hop", (stage,), target, count, self._settings(stage, traced=traced)
        )

    def _bare_loop(self) -> Sequence[float]:
        arguments = (self._kafka, f"bench-loop-{next(self._groups)}", topics.ROUTED, LOOP_COPY)
        return self._run("millpond_cli.bench.pipeline.bare_loop", arguments, LOOP_COPY, RECORDS, {})

    def _bare_faust(self, kind: str) -> Sequence[float]:
        target = FAUST_COPIES[kind]
        given = {
            "bootstrap": self._kafka,
            "source": topics.REQUESTS,
            "target": target,
            "group": f"bench-faust-{next(self._groups)}",
            "agent": kind,
        }
        arguments = tuple(chain.from_iterable((f"--{name}", value) for name, value in given.items()))
        return self._run("millpond_cli.bench.bare_faust", arguments, target, RECORDS, {})

    def _settings(self, service: str, *, traced: bool) -> dict[str, str]:
        settings = {
            FILE_VARIABLE: str(SHIPPED),
            f"{PREFIX}KAFKA_BOOTSTRAP": self._kafka,
            f"{PREFIX}PARTITIONS": str(PARTITIONS),
            f"{PREFIX}HTTP_PORT": "0",
            f"{PREFIX}STATE_DIR": str(self._folder / service),
        }
        if service == "router":
            settings[f"{PREFIX}ROUTER__EMBED"] = "false"
        if traced and self._otlp:
            settings[f"{PREFIX}OTLP_ENDPOINT"] = self._otlp
        elif traced:
            settings[f"{PREFIX}TRACES_FILE"] = os.devnull
        return settings

    # One run

    def _run(
        self, module: str, arguments: Sequence[str], target: str, count: int, settings: Mapping[str, str]
    ) -> Sequence[float]:
        """The rates at which a fresh process wrote its first `count` records to the target, slice by slice."""
        starts = self._ends(target)
        with self._process(module, arguments, settings) as process:
            until = time.monotonic() + PATIENCE_S
            while sum(self._ends(target).values()) - sum(starts.values()) < count:
                if process.poll() is not None or time.monotonic() > until:
                    raise CommandError(
                        f"{module} did not write {count} records to {target}: see {self._log(module)}", 1
                    )
                time.sleep(LOOK_S)
            times = self._times(target, starts, count, until)
        return rates(times)

    @contextmanager
    def _process(
        self, module: str, arguments: Sequence[str], settings: Mapping[str, str]
    ) -> Generator[subprocess.Popen[bytes]]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with self._log(module).open("ab") as log:
            process = subprocess.Popen(
                [*leashed(), sys.executable, "-m", module, *arguments],
                env={**own, **settings},
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _log(self, module: str) -> Path:
        return self._folder / f"{module}.log"

    # Kafka

    def _send(self, count: int) -> None:
        """Requests that name no model, may not be answered from the cache, and of which no two are equal."""
        producer = Producer({"bootstrap.servers": self._kafka, "partitioner": "murmur2_random", "linger.ms": 5})
        for number in itertools.islice(self._numbers, count):
            request = {
                "id": f"bench-{number}",
                "messages": [{"role": "user", "content": TEXT.format(number=number)}],
                "cache": {"mode": "bypass"},
            }
            producer.produce(topics.REQUESTS, json.dumps(request), f"default/bench-{number}")
            producer.poll(0)
        if producer.flush(PATIENCE_S):
            raise CommandError("Kafka did not take the requests", 1)

    def _ends(self, topic: str) -> dict[int, int]:
        return {
            number: self._reader.get_watermark_offsets(TopicPartition(topic, number), PATIENCE_S)[1]
            for number in range(PARTITIONS)
        }

    def _times(self, topic: str, starts: Mapping[int, int], count: int, until: float) -> Sequence[int]:
        """When the broker appended the first `count` records beyond the starts, in milliseconds, in order."""
        self._reader.assign([TopicPartition(topic, number, offset) for number, offset in starts.items()])
        times: list[int] = []
        while len(times) < count:
            times += [message.timestamp()[1] for message in self._reader.consume(1000, LOOK_S) if not message.error()]
            if time.monotonic() > until:
                raise CommandError(f"{topic} has {len(times)} new records, not {count}", 1)
        self._reader.unassign()
        return sorted(times)[:count]


def rates(times: Sequence[int]) -> Sequence[float]:
    """Records per second in each slice of a run. times: in milliseconds, in order."""
    warm = times[int(len(times) * WARM) :]
    size = len(warm) // SLICES
    bounds = [warm[number * size] for number in range(SLICES)] + [warm[-1]]
    return [size * 1000 / max(end - begin, 1) for begin, end in itertools.pairwise(bounds)]


def tracing_us(plain: Series, traced: Series) -> Series:
    """Microseconds that tracing takes for each record, round by round."""
    return Series(tuple(1e6 / b - 1e6 / a for a, b in zip(plain.medians, traced.medians, strict=True)))
