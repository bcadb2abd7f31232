"""`./millpond bench tiers`"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond.v1 import request_pb2, result_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.plan import Policy
from millpond_batcher.settings import BatcherSettings, policy_of
from millpond_cli import stack
from millpond_cli.bench.batcher import direct, dynamic
from millpond_cli.bench.batcher.direct import Ask
from millpond_cli.bench.batcher.dynamic import Call
from millpond_cli.bench.batcher.pond import Pond, pond
from millpond_cli.bench.report import show_targets, target, writable, write
from millpond_cli.bench.rounds import percentile
from millpond_cli.commands.options import PortBase
from millpond_cli.demo import docstrings
from millpond_cli.environment import environment
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown
from millpond_cli.setup.set_up import ready
from millpond_cli.simulation import engine_profile
from millpond_cli.simulation.engine_profile import EngineProfile
from millpond_cli.simulation.simulation import Simulation
from millpond_cli.simulation.trace import Arrival
from millpond_core.envelope import TIER_WORDS
from millpond_core.settings import ModelSettings

DUE_S = {TIER_REALTIME: 1.0, TIER_STANDARD: 30.0, TIER_OVERNIGHT: 120.0}
"""Scaled tiers: a minute for the seconds, an hour and a night that they stand for."""

ANSWER_TOKENS = {TIER_REALTIME: 4, TIER_STANDARD: 24, TIER_OVERNIGHT: 24}

PRIORITIES = {TIER_REALTIME: 1, TIER_STANDARD: 2, TIER_OVERNIGHT: 3}
"""In Triton's queue."""

BURST_S = 40.0
OVERLOAD = 2.0
"""Twice the capacity arrives for so long: two thirds of what can be done by the last deadline."""

STANDARD_SHARE = 0.25
"""Of the bulk; the rest is overnight work. What is due first is half of the capacity."""

PATIENT_S = 3000.0
"""A deadline that is none."""

CAPACITY_WAVES = 3
"""Full engines of rows by which the capacity is measured."""

ALONE, BATCHER, FIRST_COME, TRITON = "realtime alone", "batcher", "first come", "Triton's own"

REALTIME_PER_S = 1.0
ALONE_S = 20.0

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


def tiers(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    scale: Annotated[float, typer.Option(min=0.1, help="Of the deadlines 1, 30 and 120 s, and of the burst.")] = 1.0,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Deadlines kept where twice the capacity arrives in a burst: by the batcher, first come first served, by Triton.

    Triton's own is its dynamic batching with priorities, on the same engine. What ./millpond simulate expects is held
    beside the first two. The small model and real texts; sets up what is missing, and starts a Kafka, a Triton and a
    batcher of its own.
    """
    writable(json_file)
    place = home()
    with shown() as report, ready(place, report):
        pass
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        pond(place.root, port_base, Path(folder), SETTINGS) as own,
    ):
        runs = probed(own)
        rows_per_s = capacity(own)
        print(f"capacity: {rows_per_s:.2f} rows/s of {ANSWER_TOKENS[TIER_STANDARD]} tokens", flush=True)
        burst = plan_of(rows_per_s, scale)
        seen: dict[str, Sequence[Seen]] = {
            ALONE: play(own, realtime(ALONE_S), scale, in_tiers=True),
            BATCHER: play(own, burst, scale, in_tiers=True),
            FIRST_COME: play(own, burst, scale, in_tiers=False),
        }
        machine = environment(place, own.addresses.triton_http)
        model, rows, urgent_rows = own.model, own.rows, own.urgent_rows
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        dynamic.serving(place, Path(folder) / "triton.log") as address,
    ):
        seen[TRITON] = play_triton(address, model, plan_of(rows_per_s, scale))
    found = {name: by_tier(each, scale) for name, each in seen.items()}
    of_engine = with_overhead(
        engine_profile.measured("measured by ./millpond bench tiers", runs, rows, urgent_rows), seen[ALONE], scale
    )
    expected = {
        name: expected_of(seen[name], of_engine, scale, in_tiers=in_tiers)
        for name, in_tiers in ((BATCHER, True), (FIRST_COME, False))
    }
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
            "requests": len(burst),
            "deadlines_s": {TIER_WORDS[tier]: due_s * scale for tier, due_s in DUE_S.items()},
            "settings": SETTINGS,
            "runs": found,
            "engine_profile": of_engine.model_dump(),
            "expected_by_simulation": expected,
            "targets": targets,
            "environment": machine,
        },
    )


def probed(own: Pond) -> list[tuple[int, int, int, float]]:
    """What windows of the engine, driven directly, take: as `engine_profile.fitted` has them."""
    runs: list[tuple[int, int, int, float]] = []
    tokens = ANSWER_TOKENS[TIER_STANDARD]
    for rows in (1, 8, own.rows):
        for made in (texts, short_texts):
            asks = [Ask(text, tokens) for text in made(rows)]
            ran = direct.run(own.addresses.triton, own.model, asks, rows)
            runs.append((rows, ran.prompt_tokens, tokens, ran.seconds))
    # The first one warmed the engine up.
    return runs[1:]


def capacity(own: Pond) -> float:
    """Rows of bulk per second that the batcher gets out of a full engine."""
    count = CAPACITY_WAVES * own.rows
    sent = [own.routed(text, TIER_STANDARD, ANSWER_TOKENS[TIER_STANDARD], due_s=PATIENT_S) for text in texts(count)]
    own.send(sent)
    own.await_all([each.request.id for each in sent])
    ended = sorted(own.results[each.request.id][1] for each in sent)
    # From the end of the first wave on, so that nothing is measured of a beginning.
    return (count - own.rows) / (ended[-1] - ended[own.rows - 1])


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
    """Evenly spread over the burst, in an order that is the same every time."""
    chance = random.Random(1)  # noqa: S311
    seconds = BURST_S * scale
    bulk = round(OVERLOAD * rows_per_s * seconds)
    kinds = [TIER_STANDARD if chance.random() < STANDARD_SHARE else TIER_OVERNIGHT for _ in range(bulk)]
    planned = [
        Planned(chance.uniform(0, seconds), tier, text, ANSWER_TOKENS[tier])
        for tier, text in zip(kinds, texts(bulk), strict=True)
    ]
    # Realtime requests go on for as long as the backlog does.
    return sorted([*planned, *realtime(seconds * OVERLOAD)], key=lambda each: each.at_s)


def realtime(seconds: float) -> list[Planned]:
    count = max(round(seconds * REALTIME_PER_S), 1)
    return [
        Planned(place / REALTIME_PER_S, TIER_REALTIME, text, ANSWER_TOKENS[TIER_REALTIME])
        for place, text in enumerate(short_texts(count))
    ]


def short_texts(count: int) -> list[str]:
    return [f"{next(NUMBERS)}: is this number even? Answer yes or no." for _ in range(count)]


def play(own: Pond, planned: Sequence[Planned], scale: float, *, in_tiers: bool) -> list[Seen]:
    """Send each at its time and wait for all. in_tiers: else all are standard and due at the end, in their order."""
    begun = time.monotonic()
    sent: list[tuple[Planned, str, float]] = []
    waiting = list(reversed(planned))
    while waiting:
        now = time.monotonic() - begun
        if waiting[-1].at_s <= now:
            each = waiting.pop()
            tier, due_s = (each.tier, DUE_S[each.tier] * scale) if in_tiers else (TIER_STANDARD, PATIENT_S)
            routed = own.routed(each.text, tier, each.tokens, due_s=due_s)
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


def play_triton(address: str, model: ModelSettings, planned: Sequence[Planned]) -> list[Seen]:
    calls = [Call(each.at_s, each.text, each.tokens, PRIORITIES[each.tier]) for each in planned]
    answers = dynamic.play(address, model, calls)
    return [
        Seen(each, answer.prompt_tokens if answer else 1, answer.seconds if answer else None)
        for each, answer in zip(planned, answers, strict=True)
    ]


def expected_of(seen: Sequence[Seen], of_engine: EngineProfile, scale: float, *, in_tiers: bool) -> dict[str, Any]:
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
    seconds = Simulation(arrivals, of_engine, 1, policy(), 1_760_000_000).run().seconds
    return by_tier([Seen(each.planned, 1, seconds[place]) for place, each in enumerate(seen)], scale)


def with_overhead(bare: EngineProfile, seen_alone: Sequence[Seen], scale: float) -> EngineProfile:
    """With what a row takes from the batcher to the engine and back: of rows alone, what is beyond their steps."""
    (measured,) = by_tier(seen_alone, scale).values()
    (steps,) = expected_of(seen_alone, bare, scale, in_tiers=True).values()
    return bare.model_copy(update={"overhead_s": max((measured["p50_s"] or 0.0) - steps["p50_s"], 0.0)})


def policy() -> Policy:
    own = {name.removeprefix("MILLPOND_BATCHER__").lower(): value for name, value in SETTINGS.items()}
    settings = BatcherSettings.model_validate({"batcher": own})
    return policy_of(settings, settings.batcher, settings.model_of_role("small"))


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
