"""`./millpond bench tiers`"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond.v1 import request_pb2, result_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.row import CHECKS_NAME
from millpond_batcher.settings import BatcherSettings, policy_of
from millpond_cli import stack
from millpond_cli.bench import cpu_time
from millpond_cli.bench.batcher import direct, dynamic
from millpond_cli.bench.batcher.direct import Ask
from millpond_cli.bench.batcher.dynamic import Call
from millpond_cli.bench.batcher.pond import Pond, pond
from millpond_cli.commands.options import PortBase
from millpond_cli.demo import docstrings
from millpond_cli.environment import environment
from millpond_cli.figures import percentile, show_targets, target, writable, write
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.simulation.engine_profile import EngineProfile
from millpond_cli.simulation.fit import Run, fitted
from millpond_cli.simulation.simulation import Simulation, learned
from millpond_cli.simulation.trace import Arrival
from millpond_core.envelope import TIER_WORDS

DUE_S = {TIER_REALTIME: 1.0, TIER_STANDARD: 30.0, TIER_OVERNIGHT: 120.0}
"""Scaled tiers: a minute for the seconds, an hour and a night that they stand for."""

BULK_TOKENS = 24
ANSWER_TOKENS = {TIER_REALTIME: 4, TIER_STANDARD: BULK_TOKENS, TIER_OVERNIGHT: BULK_TOKENS}

PRIORITIES = {TIER_REALTIME: 1, TIER_STANDARD: 2, TIER_OVERNIGHT: 3}
"""In Triton's queue."""

BURST_S = 40.0
OVERLOAD = 2.0
"""Twice the capacity arrives for so long: two thirds of what can be done by the last deadline."""

STANDARD_SHARE = 0.25
"""Of the bulk; the rest is overnight work. What is due first is half of the capacity."""

PATIENT_S = 3000.0
"""A deadline that is none."""

CAPACITY_WAVES = 4
"""Full engines of rows by which the capacity is measured; the first and the last are left out of it."""

COMPANY_STEPS = 5
"""In which it is found how much slower an engine is in company."""

PROBES = 2
"""How often each kind of window is measured; the engine's profile is fitted to all of them."""

ALONE, BATCHER, FIRST_COME, TRITON = "realtime alone", "batcher", "first come", "Triton's own"
DIRECT, CAPACITY = "windows, driven directly", "capacity"

REALTIME_PER_S = 2.0
"""So that the slowest of a hundred is not the slowest of all."""

WARM_UP_S = 5.0

REFUSED = {CHECKS_NAME: "none of these"}
"""Metadata that names a set of checks that there is not: the batcher refuses the request as soon as it reads it."""

HITS = {"realtime": 0.995, "standard": 0.999, "overnight": 1.0}

SETTINGS = {
    "MILLPOND_BATCHER__MARGIN_S": "2",
    "MILLPOND_BATCHER__STANDARD_WAIT_S": "0.2",
    "MILLPOND_BATCHER__OVERNIGHT_WAIT_S": "0.5",
}
"""The batcher's, scaled like the tiers."""


@dataclass(frozen=True)
class Planned:
    """One request of the burst. at_s: seconds from its beginning."""

    at_s: float
    tier: request_pb2.Tier
    text: str
    tokens: int


@dataclass(frozen=True)
class Seen:
    """What became of one. seconds: to its result; None for one without an answer."""

    planned: Planned
    prompt_tokens: int
    seconds: float | None

    def hits(self, scale: float) -> bool:
        return self.seconds is not None and self.seconds <= DUE_S[self.planned.tier] * scale


@dataclass(frozen=True)
class Burst:
    """One, and what tells how fast the machine was then: crowds just before and after it, and realtime by itself."""

    name: str
    seen: Sequence[Seen]
    crowds: Sequence[Sequence[Seen]]
    alone: Sequence[Seen]

    @property
    def in_tiers(self) -> bool:
        return self.name == BATCHER

    def profile(self, bare: EngineProfile, scale: float) -> EngineProfile:
        """Of the engine in that company."""
        return in_company(with_overhead(bare, self.alone, scale), self.crowds, in_tiers=self.in_tiers)


def tiers(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    scale: Annotated[float, typer.Option(min=0.1, help="Of the deadlines 1, 30 and 120 s, and of the burst.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Bursts for the batcher and for first come first served.")] = 3,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Deadlines kept where twice the capacity arrives in a burst: by the batcher, first come first served, by Triton.

    Triton's own is its dynamic batching with priorities, on the same engine, while Kafka and the batcher have the same
    requests and refuse them. What ./millpond simulate expects is held beside the first two, by an engine's profile that
    is measured just before. The small model and real texts; sets up what is missing, and starts a Kafka, a Triton and a
    batcher of its own.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    seen: dict[str, list[Seen]] = {name: [] for name in (ALONE, BATCHER, FIRST_COME, TRITON)}
    bursts: list[Burst] = []
    busy: dict[str, list[Mapping[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        pond(place.root, port_base, Path(folder), SETTINGS) as own,
    ):

        @contextmanager
        def watched(name: str, also: Mapping[int, str] | None = None) -> Generator[None]:
            processes = {**own.processes, **(also or {})}
            before = cpu_time.read(processes)
            yield
            cores = cpu_time.cores(before, cpu_time.read(processes))
            busy.setdefault(name, []).append(cores)
            print(f"{name}: cores in use: {told(cores)}", flush=True)

        with watched(DIRECT):
            runs = probed(own)
        bare = fitted("measured by ./millpond bench tiers", runs, own.rows, own.urgent_rows)
        play(own, realtime(WARM_UP_S), scale, in_tiers=True)

        def crowded(name: str, expected_per_s: float) -> Sequence[Seen]:
            with watched(f"{CAPACITY}, {name}"):
                planned = crowd(own.rows, expected_per_s, in_tiers=name == BATCHER)
                found = play(own, planned, 1.0, in_tiers=name == BATCHER)
            rate = capacity(found, own.rows)
            print(f"{CAPACITY}, {name}: {rate:.2f} rows/s of {BULK_TOKENS} tokens", flush=True)
            return found

        rows_per_s = capacity(crowded(FIRST_COME, own.rows / runs[-1].seconds), own.rows)
        for _ in range(rounds):
            with watched(ALONE):
                alone = play(own, realtime(flood_s(scale) / 2), scale, in_tiers=True)
            seen[ALONE] += alone
            for name in (BATCHER, FIRST_COME):
                # The machine is as fast in a burst as just before and after it.
                before = crowded(name, rows_per_s)
                with watched(name):
                    burst = play(own, plan_of(rows_per_s, scale), scale, in_tiers=name == BATCHER)
                seen[name] += burst
                bursts.append(Burst(name, burst, [before, crowded(name, rows_per_s)], alone))
        machine = environment(place, own.addresses.triton_http)
        with (
            dynamic.serving(place, Path(folder) / "triton.log") as peer,
            watched(TRITON, {peer.process: TRITON}),
        ):
            seen[TRITON] += play_triton(own, peer.address, plan_of(rows_per_s, scale), scale)
    found = {name: by_tier(those, scale) for name, those in seen.items()}
    profiles = [burst.profile(bare, scale) for burst in bursts]
    played: dict[str, list[Seen]] = {BATCHER: [], FIRST_COME: []}
    for burst, profile in zip(bursts, profiles, strict=True):
        played[burst.name] += simulated(burst.seen, profile, scale, in_tiers=burst.in_tiers)
    expected = {name: by_tier(those, scale) for name, those in played.items()}
    targets = targets_of(found)
    for name, each in expected.items():
        targets += agreement(name, found[name], each)
    console = Console()
    console.print(table(found))
    show_targets(console, targets)
    write(
        json_file,
        {
            "capacity_rows_per_s": round(rows_per_s, 3),
            "rounds": rounds,
            "requests": len(seen[BATCHER]),
            "deadlines_s": {TIER_WORDS[tier]: due_s * scale for tier, due_s in DUE_S.items()},
            "settings": SETTINGS,
            "runs": found,
            "cores_in_use": busy,
            "engine_profile_alone": bare.model_dump(),
            "bursts": [
                {
                    "name": burst.name,
                    "measured": by_tier(burst.seen, scale),
                    "capacities_rows_per_s": [round(capacity(each, bare.rows), 3) for each in burst.crowds],
                    "engine_profile": profile.model_dump(),
                }
                for burst, profile in zip(bursts, profiles, strict=True)
            ],
            "expected_by_simulation": expected,
            "targets": targets,
            "environment": machine,
        },
    )


def told(busy: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {cores:.2f}" for name, cores in busy.items()) or "not known here"


def probed(own: Pond) -> list[Run]:
    """What windows of the engine, driven directly, take."""

    def probe(rows: int, made: Callable[[int], Sequence[str]]) -> Run:
        ran = direct.run(own.addresses.triton, own.model, [Ask(text, BULK_TOKENS) for text in made(rows)], rows)
        return Run([[each.input_tokens for each in ran.completions]], BULK_TOKENS, ran.seconds)

    probe(own.rows, short_texts)  # The first one warms the engine up.
    return [probe(rows, made) for rows in (1, 8, own.rows) for made in (texts, short_texts) for _ in range(PROBES)]


def crowd(rows: int, rows_per_s: float, *, in_tiers: bool) -> list[Planned]:
    """As fast as in the burst, whose arrivals take their part of the machine. rows_per_s: about what is done.

    in_tiers: with realtime requests beside, whose process takes its part too.
    """
    bulk = [
        Planned(place / (OVERLOAD * rows_per_s), TIER_OVERNIGHT if in_tiers else TIER_STANDARD, text, BULK_TOKENS)
        for place, text in enumerate(texts(CAPACITY_WAVES * rows))
    ]
    beside = realtime(CAPACITY_WAVES * rows / rows_per_s) if in_tiers else []
    return sorted([*bulk, *beside], key=lambda each: each.at_s)


def capacity(seen: Sequence[Seen], rows: int) -> float:
    """Rows per second that come out of a full engine of so many rows, where more came than it could do."""
    bulk = [each for each in seen if each.planned.tier != TIER_REALTIME]
    ended = sorted(each.planned.at_s + each.seconds for each in bulk if each.seconds is not None)
    # While the first wave runs more is read than written, and while the last one does, nothing is read any more.
    return (len(ended) - 2 * rows) / (ended[-rows - 1] - ended[rows - 1])


@cache
def documents() -> Sequence[str]:
    library = docstrings.texts(docstrings.standard_library())
    return [text.docstring for text in itertools.islice(library, 200)]


def texts(count: int) -> list[str]:
    found = documents()
    # A number in front, so that no prompt's beginning is in the engine's cache already.
    return [f"{next(NUMBERS)}. Summarise: {found[place % len(found)][:600]}" for place in range(count)]


NUMBERS = itertools.count()


def plan_of(rows_per_s: float, scale: float) -> list[Planned]:
    """Evenly spread over the burst, in an order that is the same every time; with texts of its own each time.

    Of two bursts with the same texts the second would find all of its prompts in the engine's cache.
    """
    chance = random.Random(1)  # noqa: S311
    seconds = BURST_S * scale
    bulk = round(OVERLOAD * rows_per_s * seconds)
    kinds = [TIER_STANDARD if chance.random() < STANDARD_SHARE else TIER_OVERNIGHT for _ in range(bulk)]
    planned = [
        Planned(chance.uniform(0, seconds), tier, text, ANSWER_TOKENS[tier])
        for tier, text in zip(kinds, texts(bulk), strict=True)
    ]
    return sorted([*planned, *realtime(flood_s(scale))], key=lambda each: each.at_s)


def flood_s(scale: float) -> float:
    """How long the backlog lasts, and realtime requests with it."""
    return BURST_S * scale * OVERLOAD


def realtime(seconds: float) -> list[Planned]:
    count = max(round(seconds * REALTIME_PER_S), 1)
    return [
        Planned(place / REALTIME_PER_S, TIER_REALTIME, text, ANSWER_TOKENS[TIER_REALTIME])
        for place, text in enumerate(short_texts(count))
    ]


def short_texts(count: int) -> list[str]:
    return [f"{next(NUMBERS)}: is this number even? Answer yes or no." for _ in range(count)]


def play(
    own: Pond,
    planned: Sequence[Planned],
    scale: float,
    *,
    in_tiers: bool,
    metadata: Mapping[str, str] | None = None,
) -> list[Seen]:
    """Send each at its time and wait for all. in_tiers: else all are standard and due at the end, in their order."""
    begun = time.monotonic()
    sent: list[tuple[Planned, str, float]] = []
    waiting = list(reversed(planned))
    while waiting:
        now = time.monotonic() - begun
        if waiting[-1].at_s <= now:
            each = waiting.pop()
            tier, due_s = (each.tier, DUE_S[each.tier] * scale) if in_tiers else (TIER_STANDARD, PATIENT_S)
            routed = own.routed(each.text, tier, each.tokens, due_s=due_s, metadata=metadata)
            own.send([routed])
            sent.append((each, routed.request.id, time.monotonic()))
        else:
            own.read(min(waiting[-1].at_s - now, 0.05))
    own.await_all([number for _, number, _ in sent])
    return [seen_of(own, each, number, at_s) for each, number, at_s in sent]


def seen_of(own: Pond, planned: Planned, number: str, sent_s: float) -> Seen:
    result, read_s = own.results[number]
    answered = result.status == result_pb2.STATUS_OK
    return Seen(planned, result.usage.input_tokens or 1, read_s - sent_s if answered else None)


def by_tier(seen: Sequence[Seen], scale: float) -> dict[str, Any]:
    """JSON-ready."""
    found: dict[str, Any] = {}
    for tier, word in TIER_WORDS.items():
        those = [each for each in seen if each.planned.tier == tier]
        times = [each.seconds for each in those if each.seconds is not None]
        if those:
            found[word] = {
                "requests": len(those),
                "hit_rate": round(sum(each.hits(scale) for each in those) / len(those), 4),
                **{
                    f"p{share}_s": round(percentile(times, share / 100), 3) if times else None for share in (50, 95, 99)
                },
            }
    return found


def play_triton(own: Pond, address: str, planned: Sequence[Planned], scale: float) -> list[Seen]:
    """While Kafka and the batcher are as busy as with their own: each request comes to them too, and is refused."""
    calls = [Call(each.at_s, each.text, each.tokens, PRIORITIES[each.tier]) for each in planned]
    with ThreadPoolExecutor(1) as peer:
        playing = peer.submit(dynamic.play, address, own.model, calls)
        play(own, planned, scale, in_tiers=True, metadata=REFUSED)
        answers = playing.result()
    return [
        Seen(each, answer.prompt_tokens if answer else 1, answer.seconds if answer else None)
        for each, answer in zip(planned, answers, strict=True)
    ]


def simulated(seen: Sequence[Seen], of_engine: EngineProfile, scale: float, *, in_tiers: bool) -> list[Seen]:
    """What the simulation makes of the same requests."""
    prompts = [each.prompt_tokens for each in seen if each.seconds is not None]
    usual = round(percentile(prompts, 0.5)) if prompts else 100
    arrivals = [
        Arrival(
            at_s=each.planned.at_s,
            tier=TIER_WORDS[each.planned.tier if in_tiers else TIER_STANDARD],
            prompt_tokens=each.prompt_tokens if each.seconds is not None else usual,
            output_tokens=each.planned.tokens,
            due_s=DUE_S[each.planned.tier] * scale if in_tiers else PATIENT_S,
        )
        for each in seen
    ]
    settings = batcher_settings()
    policy = policy_of(settings, settings.batcher, settings.model_of_role("small"))
    known = learned(arrivals, of_engine, policy, settings.batcher.queue_target_s)
    seconds = Simulation(arrivals, of_engine, 1, policy, 1_760_000_000, known).run().seconds
    return [replace(each, seconds=seconds[place]) for place, each in enumerate(seen)]


def with_overhead(bare: EngineProfile, seen_alone: Sequence[Seen], scale: float) -> EngineProfile:
    """With what a row takes from the batcher to the engine and back: of rows alone, what is beyond their steps."""
    (measured,) = by_tier(seen_alone, scale).values()
    (steps,) = by_tier(simulated(seen_alone, bare, scale, in_tiers=True), scale).values()
    return bare.model_copy(update={"overhead_s": max((measured["p50_s"] or 0.0) - steps["p50_s"], 0.0)})


def mean_end_s(crowd: Sequence[Seen]) -> float:
    """When its bulk was done, in the mean: seconds from its beginning. A few rows at either end do not change it."""
    ends = [
        each.planned.at_s + each.seconds
        for each in crowd
        if each.planned.tier != TIER_REALTIME and each.seconds is not None
    ]
    return sum(ends) / len(ends)


def in_company(bare: EngineProfile, crowds: Sequence[Sequence[Seen]], *, in_tiers: bool) -> EngineProfile:
    """With what Kafka, the batcher and the bench take of its cores: so much slower as a full engine was beside them.

    bare: driven directly, while they had nothing to do. crowds: each began with an engine that had nothing to do.
    """
    found = sum(map(mean_end_s, crowds))
    slower = 1.0
    # The crowd's arrivals, and what realtime takes, are not in proportion: half of the error is gone with each step.
    for _ in range(COMPANY_STEPS):
        expected = [simulated(each, bare.slowed(slower), 1.0, in_tiers=in_tiers) for each in crowds]
        slower *= found / sum(map(mean_end_s, expected))
    return bare.slowed(slower)


def batcher_settings() -> BatcherSettings:
    """Of the batcher that runs here."""
    own = {name.removeprefix("MILLPOND_BATCHER__").lower(): value for name, value in SETTINGS.items()}
    return BatcherSettings.model_validate({"batcher": own})


def targets_of(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    kept = [
        target(f"deadlines kept, {word}", found[BATCHER][word]["hit_rate"], "share", bound, "higher")
        for word, bound in HITS.items()
    ]
    beside, by_itself = found[BATCHER]["realtime"]["p99_s"], found[ALONE]["realtime"]["p99_s"]
    if beside is None or by_itself is None:
        return kept
    slower = round(beside / by_itself, 2)
    return [*kept, target("realtime p99 in the flood, beside alone", slower, "times", 1.2, "lower")]


def agreement(name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far the simulation is from what was measured: deadlines kept, and the time within which half came."""
    targets: list[dict[str, Any]] = []
    for word, each in found.items():
        kept = abs(expected[word]["hit_rate"] - each["hit_rate"])
        targets.append(
            target(f"simulated: {name}, {word}, deadlines kept, off by", round(kept, 4), "share", 0.1, "lower")
        )
        if word != "realtime" and each["p50_s"]:
            half = abs(expected[word]["p50_s"] / each["p50_s"] - 1)
            targets.append(
                target(f"simulated: {name}, {word}, half within, off by", round(half, 3), "share", 0.1, "lower")
            )
    return targets


def table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    shown_table = Table("", "tier", "requests", "deadlines kept", "half within", "99 in 100 within", box=None)
    for name, those in found.items():
        for word, each in those.items():
            row = (f"{each['requests']:,}", f"{each['hit_rate']:.1%}", f"{each['p50_s']} s", f"{each['p99_s']} s")
            shown_table.add_row(name, word, *row)
    return shown_table
