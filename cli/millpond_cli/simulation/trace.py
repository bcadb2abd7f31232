"""The requests of a simulation: read from a file, or made up at given rates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from millpond.v1 import request_pb2
from millpond_cli import json_rows
from millpond_cli.errors import CommandError
from millpond_core.envelope import TIER_WORDS

TIERS: Mapping[str, request_pb2.Tier] = {word: tier for tier, word in TIER_WORDS.items()}

TENANTS = ("acme", "globex", "initech")

MOST_S = 10 * 366 * 86_400
"""Ten years: dates end somewhere."""


class Arrival(BaseModel):
    """One request. at_s: seconds from the beginning. due_s: from its arrival; None for its tier's usual time.

    output_tokens: what its answer has; max_tokens: what it might have had, the same where it is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    at_s: float = Field(ge=0, le=MOST_S)
    tier: str = Field(default="standard", pattern="^(realtime|standard|overnight)$")
    tenant: str = "default"
    prompt_tokens: int = Field(gt=0)
    output_tokens: int = Field(gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    due_s: float | None = Field(default=None, gt=0)

    @property
    def longest(self) -> int:
        return max(self.max_tokens or 0, self.output_tokens)


@dataclass(frozen=True)
class Rate:
    """Requests per second of one tier; they arrive independently of each other."""

    tier: str
    per_s: float


def read(file: Path) -> Sequence[Arrival]:
    """One JSON object a line, in any order. Raises CommandError."""
    return sorted(json_rows.read(file, Arrival), key=lambda each: each.at_s)


MOST_ARRIVALS = 5_000_000
"""That are made up: they are held in memory, some 500 bytes each."""


def rates(texts: Iterable[str]) -> Sequence[Rate]:
    """Out of "realtime=0.5", "standard=3". Raises CommandError."""
    found: list[Rate] = []
    for text in texts:
        tier, _, number = text.partition("=")
        try:
            rate = Rate(tier, float(number))
        except ValueError:
            rate = Rate("", 0)
        if rate.tier not in TIERS or not 0 < rate.per_s < 1e6:
            raise CommandError(
                f"--rate {text}: must read TIER=PER_SECOND, as in standard=3.5; tiers: {', '.join(TIERS)}"
            )
        found.append(rate)
    return found


def made_up(of: Sequence[Rate], duration_s: float, prompt_tokens: int, output_tokens: int, seed: int) -> list[Arrival]:
    """Poisson arrivals, with lengths around the given medians: log-normal, two thirds within a factor of 1.6.

    Source: of request lengths, BurstGPT (Wang et al. 2024) and others find long right tails.
    Raises CommandError for more than MOST_ARRIVALS.
    """
    if (count := sum(rate.per_s for rate in of) * duration_s) > MOST_ARRIVALS:
        raise CommandError(
            f"simulate: {count:,.0f} requests, and {MOST_ARRIVALS:,} are simulated at most: lower --duration-s"
        )
    chance = random.Random(seed)  # noqa: S311
    arrivals: list[Arrival] = []
    for rate in of:
        at_s = chance.expovariate(rate.per_s)
        while at_s < duration_s:
            arrivals.append(
                Arrival(
                    at_s=at_s,
                    tier=rate.tier,
                    tenant=chance.choice(TENANTS),
                    prompt_tokens=max(round(prompt_tokens * chance.lognormvariate(0, 0.5)), 1),
                    output_tokens=max(round(output_tokens * chance.lognormvariate(0, 0.5)), 1),
                )
            )
            at_s += chance.expovariate(rate.per_s)
    return sorted(arrivals, key=lambda each: each.at_s)
