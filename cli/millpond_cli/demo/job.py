"""Sends the work and collects its results: exactly one for each request, or it says which has none."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import KafkaException

from millpond.v1 import result_pb2
from millpond_cli.client import Requests, Results
from millpond_cli.demo.workload import EXPLAIN, Demand
from millpond_cli.kafka_lag import lags
from millpond_cli.metrics_page import Samples, Watch
from millpond_core.settings import Settings
from millpond_core.stage import ROUTE_WORDS
from millpond_core.telemetry import Tracing
from millpond_core.topics import LEARN

STALL_S = 120.0
"""Without any result for so long, no more are waited for. The longest that one may take here: a full queue at the
large model's stand-in, which answers one request after the other."""

SETTLED_S = 3.0
"""Without a result for so long, what is missing is looked for among dropped copies and dead letters."""

PEOPLE = 4
"""Who ask at one time; each waits for an answer before the next question. So there are as many questions in a second as
this machine can answer, and a slow one does not let them expire."""

LEARNING_S = 15.0
"""At most, for the cache to take in the first answers before the same is asked again."""

LOOK_S = 0.1
"""Between two looks for what is to be sent; results are read meanwhile."""

RATE_S = 8.0
"""Over which tokens per second are counted: answers come in batches."""


STAGES = ("router", "cache", "batcher", "frontier")
IN_FLIGHT = "millpond_in_flight"
WITHOUT_RESULT = {
    "millpond_copies_dropped_total": "were dropped as copies of requests sent before",
    "millpond_dead_letters_total": "went to the dead letters",
}
"""Counters of requests that get no result: the second of an id, and those of which not even an id can be read."""


@dataclass
class Progress:
    """Where the work is, for a person to see."""

    requests: int
    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter[str])
    """By route, "none" for errors."""
    errors: int = 0
    usd: float = 0.0
    synchronous_usd: float = 0.0
    tokens_per_s: float = 0.0
    elapsed_s: float = 0.0
    in_flight: Mapping[str, int] = field(default_factory=dict[str, int])
    """By stage: records that it has taken and not finished."""

    @property
    def done(self) -> int:
        return self.answered.total()

    @property
    def waiting(self) -> int:
        """Sent, and in nobody's hands: in Kafka."""
        return max(0, self.sent - self.done - sum(self.in_flight.values()))


@dataclass(frozen=True)
class Outcome:
    """What came of the work.

    results: the first of each request. again: results beyond the first. missing: requests that have none.
    counted: what the services counted meanwhile. wall_s: from the first request to the last result.
    """

    results: Sequence[result_pb2.Result]
    again: int
    missing: Sequence[Demand]
    counted: Samples
    wall_s: float


def run_job(
    settings: Settings,
    tracing: Tracing,
    services: Iterable[str],
    demands: Sequence[Demand],
    show: Callable[[Progress], None],
) -> Outcome:
    """services: the URLs of their pages. show: called a few times a second. Raises CommandError."""
    with Results(settings) as results, Requests(settings, tracing) as requests, Watch(services) as watch:
        job = _Job(settings, demands, requests, results, watch, show)
        job.run()
    return job.outcome()


@dataclass(frozen=True)
class _Wave:
    """What is still to be sent of it. documents: all at once. questions: as people have answers to those before."""

    documents: deque[Demand]
    questions: deque[Demand]

    @classmethod
    def of(cls, demands: Iterable[Demand], number: int) -> Self:
        own = [each for each in demands if each.wave == number]
        return cls(
            deque(each for each in own if not each.is_asked_by_a_person),
            deque(each for each in own if each.is_asked_by_a_person),
        )

    def __bool__(self) -> bool:
        return bool(self.documents or self.questions)


class _Job:
    def __init__(  # noqa: PLR0917
        self,
        settings: Settings,
        demands: Sequence[Demand],
        requests: Requests,
        results: Results,
        watch: Watch,
        show: Callable[[Progress], None],
    ) -> None:
        self._requests = requests
        self._results = results
        self._watch = watch
        self._show = show
        self._settings = settings
        self._waves = [_Wave.of(demands, number) for number in (1, 2)]
        self._sent: dict[str, Demand] = {}
        """By trace id: a request has one even where no id of its own can be read."""
        self._asked: set[str] = set()
        """Trace ids of people's questions without an answer yet."""
        self._first: dict[str, result_pb2.Result] = {}
        self._again = 0
        self._progress = Progress(len(demands))
        self._written: deque[tuple[float, int]] = deque()
        self._begun = self._wave_begun = self._last_result = time.monotonic()

    def run(self) -> None:
        while not self._is_over():
            self._send()
            for result in self._results.take(LOOK_S):
                self._take(result)
            self._tell()

    def outcome(self) -> Outcome:
        missing = [demand for trace, demand in self._sent.items() if trace not in self._first]
        wall_s = self._last_result - self._begun
        return Outcome(list(self._first.values()), self._again, missing, self._watch.since, wall_s)

    def _send(self) -> None:
        """What is due of the wave that runs; the next begins when this one is out and may be asked again."""
        if not self._waves:
            return
        wave = self._waves[0]
        while wave.documents:
            self._send_one(wave.documents.popleft())
        while wave.questions and (len(self._asked) < PEOPLE or self._quiet_s > STALL_S):
            question = wave.questions.popleft()
            self._asked.add(self._send_one(question))
        if not wave and (len(self._waves) == 1 or self._may_ask_again()):
            self._waves.pop(0)
            self._wave_begun = time.monotonic()

    def _send_one(self, demand: Demand) -> str:
        """Returns its trace's id."""
        trace = self._requests.send(demand.body, demand.key)
        self._sent[trace] = demand
        return trace

    def _may_ask_again(self) -> bool:
        """Whether the cache has taken in the answers of the first wave, or has had its time."""
        quick = [trace for trace, demand in self._sent.items() if demand.kind != EXPLAIN]
        if any(trace not in self._first for trace in quick):
            return self._quiet_s > STALL_S
        return self._has_learned() or self._quiet_s > LEARNING_S

    def _has_learned(self) -> bool:
        """An answer is on ai.learn as soon as it is on ai.results: one transaction wrote both."""
        try:
            return not any(lag.records for lag in lags(self._settings) if lag.topic == LEARN)
        except KafkaException:
            return False

    def _take(self, result: result_pb2.Result) -> None:
        # Others may use the same stack.
        if result.trace_id not in self._sent:
            return
        if result.trace_id in self._first:
            self._again += 1
            return
        self._first[result.trace_id] = result
        self._asked.discard(result.trace_id)
        self._last_result = time.monotonic()
        progress = self._progress
        progress.answered[ROUTE_WORDS[result.served_by.route]] += 1
        progress.errors += result.status != result_pb2.STATUS_OK
        progress.usd += float(result.cost_usd)
        progress.synchronous_usd += float(result.cost_sync_usd)
        if is_from_model(result):
            self._written.append((self._last_result, result.usage.output_tokens))

    @property
    def _quiet_s(self) -> float:
        return time.monotonic() - max(self._last_result, self._wave_begun)

    def _is_over(self) -> bool:
        if any(self._waves):
            return False
        missing = len(self._sent) - len(self._first)
        if missing == 0:
            return True
        since = self._watch.since
        gone = sum(since.total(name) for name in WITHOUT_RESULT)
        return self._quiet_s > STALL_S or (missing <= gone and self._quiet_s > SETTLED_S)

    def _tell(self) -> None:
        now = time.monotonic()
        while self._written and self._written[0][0] < now - RATE_S:
            self._written.popleft()
        progress = self._progress
        progress.sent = len(self._sent)
        progress.elapsed_s = now - self._begun
        progress.tokens_per_s = sum(tokens for _, tokens in self._written) / min(RATE_S, max(1.0, progress.elapsed_s))
        counts = self._watch.now
        progress.in_flight = {stage: int(counts.total(IN_FLIGHT, stage=stage)) for stage in STAGES}
        self._show(progress)


def is_from_model(result: result_pb2.Result) -> bool:
    return result.served_by.route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER)
