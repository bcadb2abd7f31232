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
from millpond_cli.simulation.simulation import Simulation, figures
from millpond_cli.simulation.trace import Arrival
from millpond_core.envelope import TIER_WORDS

DUE_S = {TIER_REALTIME: 1.0, TIER_STANDARD: 30.0, TIER_OVERNIGHT: 120.0}
"""Scaled tiers: a minute for the seconds, an hour and a night that they stand for."""

ANSWER_TOKENS = {TIER_REALTIME: 4, TIER_STANDARD: 24, TIER_OVERNIGHT: 24}

BURST_S = 40.0
OVERLOAD = 2.0
"""Twice the capacity arrives for so long: two thirds of what can be done by the last deadline."""

STANDARD_SHARE = 0.25
"""Of the bulk; the rest is overnight work. What is due first is half of the capacity."""

REALTIME_PER_S = 1.0
ALONE_S = 20.0

HITS = {"realtime": 0.995, "standard": 0.999, "overnight": 1.0}

SETTINGS = {
    "MILLPOND_BATCHER__MARGIN_S": "2",
    "MILLPOND_BATCHER__STANDARD_WAIT_S": "0.2",
    "MILLPOND_BATCHER__OVERNIGHT_WAIT_S": "0.5",
    "MILLPOND_BATCHER__RESERVED_ROWS": "4",
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
    profile: Annotated[
        Path | None,
        typer.Option("--engine-profile", metavar="FILE", help="Also say what ./millpond simulate expects of it."),
    ] = None,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Deadlines kept where twice the capacity arrives in a burst: by the batcher, and first come, first served.

    The small model and real texts. Sets up what is missing, and starts a Kafka, a Triton and a batcher of its own.
    """
    writable(json_file)
    of_engine = engine_profile.read(profile) if profile else None
    place = home()
    with shown() as report, ready(place, report):
        pass
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        pond(place.root, port_base, Path(folder), SETTINGS) as own,
    ):
        rows_per_s = capacity(own)
        print(f"capacity: {rows_per_s:.2f} rows/s of {ANSWER_TOKENS[TIER_STANDARD]} tokens", flush=True)
        burst = plan_of(rows_per_s, scale)
        seen: dict[str, Sequence[Seen]] = {
            "realtime alone": play(own, alone(), scale, in_tiers=True),
            "batcher": play(own, burst, scale, in_tiers=True),
            "first come": play(own, burst, scale, in_tiers=False),
        }
        machine = environment(place, own.addresses.triton_http)
    found = {name: by_tier(each, scale) for name, each in seen.items()}
    targets = targets_of(found)
    expected = None
    if of_engine is not None:
        expected = expectation(seen["batcher"], of_engine, scale)
        targets += agreement(found["batcher"], expected)
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
            "expected_by_simulation": expected,
            "targets": targets,
            "environment": machine,
        },
    )


def capacity(own: Pond) -> float:
    """Rows of bulk per second that the batcher gets out of the engine, once it is warm."""
    rows = own.model.max_rows
    for _ in range(2):
        began = time.monotonic()
        sent = [own.routed(text, TIER_STANDARD, ANSWER_TOKENS[TIER_STANDARD], due_s=3000) for text in texts(rows)]
        own.send(sent)
        own.await_all([each.request.id for each in sent])
        seconds = time.monotonic() - began
    return rows / seconds  # pyright: ignore[reportPossiblyUnboundVariable]


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


def alone() -> list[Planned]:
    return realtime(ALONE_S)


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
            tier, due_s = (each.tier, DUE_S[each.tier] * scale) if in_tiers else (TIER_STANDARD, 3000.0)
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


def within(times: Sequence[float], share: int) -> float | None:
    return round(percentile(times, share / 100), 3) if times else None


def expectation(seen: Sequence[Seen], of_engine: engine_profile.EngineProfile, scale: float) -> dict[str, Any]:
    """What the simulation makes of the same requests."""
    prompts = [each.prompt_tokens for each in seen if each.seconds is not None]
    usual = round(percentile(prompts, 0.5)) if prompts else 100
    arrivals = [
        Arrival(
            at_s=each.planned.at_s,
            tier=TIER_WORDS[each.planned.tier],
            prompt_tokens=each.prompt_tokens if each.seconds is not None else usual,
            output_tokens=each.planned.tokens,
            due_s=DUE_S[each.planned.tier] * scale,
        )
        for each in seen
    ]
    return figures(Simulation(arrivals, of_engine, 1, policy(), 1_760_000_000).run(), 1, of_engine)


def policy() -> Policy:
    own = {name.removeprefix("MILLPOND_BATCHER__").lower(): value for name, value in SETTINGS.items()}
    settings = BatcherSettings.model_validate({"batcher": own})
    return policy_of(settings, settings.batcher, settings.model_of_role("small"))


def targets_of(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    kept = [
        target(f"deadlines kept, {word}", found["batcher"][word]["hit_rate"], "share", bound, "higher")
        for word, bound in HITS.items()
    ]
    beside, by_itself = found["batcher"]["realtime"]["p99_s"], found["realtime alone"]["realtime"]["p99_s"]
    if beside is None or by_itself is None:
        return kept
    slower = round(beside / by_itself, 2)
    return [*kept, target("realtime p99 in the flood, beside alone", slower, "times", 1.2, "lower")]


def agreement(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far the simulation is from what was measured: of the deadlines kept, by tier."""
    return [
        target(
            f"simulated deadlines kept, off by, {word}",
            round(abs(expected["tiers"][word]["hit_rate"] - each["hit_rate"]), 4),
            "share",
            0.1,
            "lower",
        )
        for word, each in found.items()
        if word in expected["tiers"]
    ]


def table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    shown_table = Table("", "tier", "requests", "deadlines kept", "half within", "99 in 100 within", box=None)
    for name, those in found.items():
        for word, each in those.items():
            row = (f"{each['requests']:,}", f"{each['hit_rate']:.1%}", f"{each['p50_s']} s", f"{each['p99_s']} s")
            shown_table.add_row(name, word, *row)
    return shown_table
