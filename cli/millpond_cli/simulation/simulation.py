"""Runs a trace through the batcher's plan and simulated engines, and says what became of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import simpy

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_REALTIME
from millpond_batcher import plan
from millpond_batcher.backlog import Waiting
from millpond_batcher.cost_model import WINDOW, Cost, Costs, Ran
from millpond_batcher.limit import Limit, limit_of
from millpond_batcher.plan import Batch, Policy, Wait, backlog_of
from millpond_cli.figures import percentile
from millpond_cli.simulation.engine import Running, SimulatedEngine
from millpond_cli.simulation.engine_profile import EngineProfile
from millpond_cli.simulation.trace import TIERS, Arrival
from millpond_core.envelope import TIER_WORDS

MOST_TOKENS = 1 << 31


@dataclass
class Outcome:
    """latencies_s: by tier, from arrival to answer; seconds: the same by the arrival's place in the trace.

    hits: answers before their deadline. served_tokens: by tenant. busy_s, tokens: of all engines together. end_s: the
    last answer, from the trace's beginning.
    """

    latencies_s: Mapping[str, list[float]]
    hits: Counter[str]
    served_tokens: Counter[str]
    seconds: dict[int, float] = field(default_factory=dict[int, float])
    batches: int = 0
    batch_rows: int = 0
    end_s: float = 0.0
    busy_s: float = 0.0
    tokens: int = 0


@dataclass
class _Replica:
    """As the batcher sees it: limit says how many rows it is given at a time. tokens: of those that run there."""

    engine: SimulatedEngine
    limit: Limit
    tokens: int = 0

    @property
    def free(self) -> int:
        return self.limit.rows - self.engine.rows


@dataclass(frozen=True)
class Known:
    """What the batcher knows of an engine: what its rows take, and how many it is given at a time."""

    costs: Costs
    limit: Limit


class TooLong(ValueError):
    """The request that no batch may hold: prompt and longest answer together."""

    def __init__(self, arrival: Arrival) -> None:
        super().__init__(
            f"a {arrival.tier} request has {arrival.prompt_tokens} + {arrival.longest} tokens, and a batch does not "
            "hold as many: batcher.batch_tokens and the model's max_batch_tokens say how many"
        )


class Simulation:
    """begins_s: seconds since 1970 at the trace's beginning: off-peak hours are hours of a day.

    known: what the batcher knows of each engine at the beginning; it learns on. engine_tokens: as the model's
    `max_batch_tokens`. Raises TooLong for a request that no batch may hold.
    """

    def __init__(  # noqa: PLR0917
        self,
        arrivals: Sequence[Arrival],
        profile: EngineProfile,
        replicas: int,
        policy: Policy,
        begins_s: float,
        known: Known,
        engine_tokens: int = MOST_TOKENS,
    ) -> None:
        self._arrivals = arrivals
        self._tokens = engine_tokens
        self._profile = profile
        self._policy = policy
        self._begins_s = begins_s
        self._environment = simpy.Environment(begins_s)
        self._replicas = [
            _Replica(SimulatedEngine(self._environment, profile), deepcopy(known.limit)) for _ in range(replicas)
        ]
        self._costs = deepcopy(known.costs)
        self._priced = self._costs.bulk.cost
        self._backlog = backlog_of(policy, self._costs.of_tier, profile.all_rows, replicas, int)
        self._running: Counter[tuple[str, request_pb2.Tier]] = Counter()
        self._woken = 0
        self._outcome = Outcome({word: [] for word in TIERS}, Counter(), Counter())
        for number, arrival in enumerate(arrivals):
            if not plan.fits(self._waiting(number, arrival), engine_tokens, policy):
                raise TooLong(arrival)

    @property
    def known(self) -> Known:
        """What it knows by now, of its first engine."""
        return Known(self._costs, self._replicas[0].limit)

    def run(self) -> Outcome:
        self._environment.process(self._arrive())
        self._environment.run()
        outcome = self._outcome
        outcome.busy_s = sum(replica.engine.busy_s for replica in self._replicas)
        outcome.tokens = sum(replica.engine.tokens for replica in self._replicas)
        return outcome

    def _arrive(self) -> Any:
        for number, arrival in enumerate(self._arrivals):
            at_s = self._begins_s + arrival.at_s
            if at_s > self._environment.now:
                self._turn()
                yield self._environment.timeout(at_s - self._environment.now)
            self._backlog.add(self._waiting(number, arrival))
        self._turn()

    def _waiting(self, number: int, arrival: Arrival) -> Waiting[int]:
        tier, at_s = TIERS[arrival.tier], self._begins_s + arrival.at_s
        due_s = at_s + (arrival.due_s or self._policy.usual_s[tier])
        return Waiting(number, arrival.tenant, tier, at_s, due_s, arrival.prompt_tokens, arrival.longest)

    def _turn(self) -> None:
        while self._backlog:
            rows = sum(replica.limit.rows for replica in self._replicas)
            used = min(replica.tokens for replica in self._replicas)
            engine = plan.Engine(rows, self._running, self._tokens, used)
            step = plan.plan(self._backlog, engine, self._policy, self._environment.now)
            if isinstance(step, Wait):
                if step.seconds is not None:
                    self._woken += 1
                    self._environment.process(self._wake(step.seconds, self._woken))
                return
            self._send(step)

    def _wake(self, seconds: float, number: int) -> Any:
        # Time in floats near 1.7e9 has steps of a quarter of a microsecond: a wait below it would not pass.
        yield self._environment.timeout(max(seconds, 1e-5))
        if number == self._woken:
            self._turn()

    def _send(self, batch: Batch[int]) -> None:
        self._outcome.batches += 1
        self._outcome.batch_rows += len(batch.members)
        for member in batch.members:
            replica = plan.best_for(member.tokens, self._replicas, self._tokens)
            replica.tokens += member.tokens
            arrival = self._arrivals[member.item]
            self._running[member.tenant, member.tier] += 1
            urgent = member.tier == TIER_REALTIME
            done = partial(self._done, member, replica, replica.engine.area())
            replica.engine.take(Running(arrival.prompt_tokens, arrival.output_tokens, urgent, done))

    def _learn(self, replica: _Replica, row: Running, arrival: Arrival, area: float) -> None:
        """What the row took, for the plan of those to come. area: the replica's when it was taken."""
        seconds = max(self._environment.now - row.taken_s, 1e-6)
        rows = max((replica.engine.area() - area) / seconds, 1.0)
        costs = self._costs.urgent if row.urgent else self._costs.bulk
        costs.observe(Ran(arrival.prompt_tokens, arrival.output_tokens, rows, seconds + self._profile.overhead_s))
        if costs.cost.differs(self._priced, self._profile.all_rows) and not row.urgent:
            self._priced = costs.cost
            self._backlog.reprice()

    def _done(self, member: Waiting[int], replica: _Replica, area: float, row: Running) -> None:
        now = self._environment.now + self._profile.overhead_s
        if not row.urgent:
            replica.limit.answered(
                sent_s=row.taken_s,
                now=self._environment.now,
                waited_s=row.first_token_s,
                running=replica.engine.rows + 1,
            )
        arrival = self._arrivals[member.item]
        self._learn(replica, row, arrival, area)
        word = TIER_WORDS[member.tier]
        outcome = self._outcome
        outcome.latencies_s[word].append(now - member.arrived_s)
        outcome.seconds[member.item] = now - member.arrived_s
        outcome.hits[word] += now <= member.deadline_s
        outcome.served_tokens[member.tenant] += arrival.prompt_tokens + arrival.output_tokens
        outcome.end_s = now - self._begins_s
        self._running[member.tenant, member.tier] -= 1
        replica.tokens -= member.tokens
        self._backlog.refund(member, member.max_tokens - arrival.output_tokens)
        self._turn()


def believed(profile: EngineProfile, policy: Policy, queue_target_s: float = math.inf) -> Known:
    """Before any row has run: one by itself is believed to read and write as fast as the profile says.

    queue_target_s: the batcher's setting: engines whose rows wait longer for their first token are given fewer.
    """
    prior = Cost(profile.step_s, profile.row_step_s, profile.prompt_token_s, profile.overhead_s)
    limit = limit_of(policy, profile.all_rows, queue_target_s)
    return Known(Costs(prior, profile.all_rows), limit)


def learned(arrivals: Sequence[Arrival], profile: EngineProfile, policy: Policy, queue_target_s: float) -> Known:
    """What a batcher that has kept such an engine full of such requests for a while knows of it."""
    crowd = [arrival.model_copy(update={"at_s": 0.0}) for arrival in arrivals[:WINDOW]]
    simulation = Simulation(crowd, profile, 1, policy, 0.0, believed(profile, policy, queue_target_s))
    simulation.run()
    return simulation.known


def figures(outcome: Outcome, replicas: int, profile: EngineProfile) -> dict[str, Any]:
    """JSON-ready."""
    tiers = {
        word: {
            "requests": len(latencies),
            "hit_rate": round(outcome.hits[word] / len(latencies), 5),
            **{f"p{share}_s": round(percentile(latencies, share / 100), 3) for share in (50, 95, 99)},
        }
        for word, latencies in outcome.latencies_s.items()
        if latencies
    }
    hours = outcome.end_s / 3600 * replicas
    return {
        "replicas": replicas,
        "tiers": tiers,
        "utilisation": round(outcome.busy_s / (outcome.end_s * replicas), 4) if outcome.end_s else 0.0,
        "rows_in_a_batch": round(outcome.batch_rows / outcome.batches, 1) if outcome.batches else 0.0,
        "tokens_per_s": round(outcome.tokens / outcome.end_s, 1) if outcome.end_s else 0.0,
        "wall_s": round(outcome.end_s, 2),
        "usd": round(hours * profile.usd_per_hour, 4),
        "tokens_by_tenant": dict(outcome.served_tokens),
    }


def least_replicas(holds: Callable[[int], bool], most: int) -> int | None:
    """The fewest replicas that hold, where more never do worse; None where even the most do not."""
    low, high = 1, 1
    while not holds(high):
        if high >= most:
            return None
        low, high = high + 1, min(high * 2, most)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
