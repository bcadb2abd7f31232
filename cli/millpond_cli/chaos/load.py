"""What is sent, and when. Pure: the seed alone decides.

Beside requests there are copies of them (the same id and body), conflicts (the same id and another body) and records
that nobody can read; some requests go through the sync tier, and copies of some of those to Kafka.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Kind = Literal["request", "copy", "conflict", "unreadable"]

TENANTS = ("acme", "globex")

TIERS = ("realtime", "standard", "overnight")
TIER_WEIGHTS = (3, 5, 2)

ASKED_BEFORE = 0.1
"""Share of requests that ask what an earlier one did: the cache may answer them."""

LARGE = 0.1
"""Share of requests that name the large model."""

SYNC = 0.04
"""Share of requests that go through the sync tier."""

COPIES = 0.06
CONFLICTS = 0.01
UNREADABLE = 0.005
"""Shares of requests beside which such a record is sent."""

LATER = 0.05
"""Of the load's time: how much later a copy or a conflict comes at most."""


@dataclass(frozen=True)
class Sending:
    """at: from 0 to 1, of the load's time. prompt: what the answer of an echo has in it. body: JSON."""

    at: float
    kind: Kind
    id: str
    tenant: str
    prompt: str
    body: bytes
    sync: bool = False

    @property
    def key(self) -> bytes:
        return f"{self.tenant}/{self.id}".encode()


def load(requests: int, seed: int) -> Sequence[Sending]:
    """In the order of their times."""
    chance = random.Random(seed)  # noqa: S311
    first = [_request(number, number / requests, requests, chance) for number in range(requests)]
    beside: list[Sending] = []
    for sending in first:
        if chance.random() < COPIES or (sending.sync and chance.random() < 1 / 3):
            beside.append(_beside(sending, "copy", sending.prompt, chance))
        if not sending.sync and chance.random() < CONFLICTS:
            beside.append(_beside(sending, "conflict", f"Something else as {sending.id}.", chance))
        if chance.random() < UNREADABLE:
            beside.append(Sending(sending.at, "unreadable", "", "", "", b"{" + sending.id.encode()))
    return sorted([*first, *beside], key=lambda sending: sending.at)


def _request(number: int, at: float, requests: int, chance: random.Random) -> Sending:
    id = f"c{number:0{len(str(requests))}}"
    earlier = chance.randrange(number) if number and chance.random() < ASKED_BEFORE else number
    sync = chance.random() < SYNC
    # The tenant and the model may be others than the earlier request's: then the cache must not answer.
    prompt = f"Say q{earlier:0{len(str(requests))}} again."
    tenant = chance.choice(TENANTS)
    tier = chance.choices(TIERS, TIER_WEIGHTS)[0]
    model = "frontier" if sync or chance.random() < LARGE else chance.choice(("small", "auto"))
    return Sending(at, "request", id, tenant, prompt, _body(id, tenant, tier, model, prompt), sync)


def _beside(sending: Sending, kind: Kind, prompt: str, chance: random.Random) -> Sending:
    given: dict[str, Any] = orjson.loads(sending.body)
    given["messages"][0]["content"] = prompt
    # A copy's fields may come in another order: it is a copy all the same.
    names = sorted(given, reverse=chance.random() < 1 / 2)
    body = orjson.dumps({name: given[name] for name in names})
    return Sending(sending.at + chance.uniform(0, LATER), kind, sending.id, sending.tenant, prompt, body)


def _body(id: str, tenant: str, tier: str, model: str, prompt: str) -> bytes:
    return orjson.dumps(
        {
            "id": id,
            "tenant": tenant,
            "tier": tier,
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "params": {"max_tokens": 32, "temperature": 0},
        }
    )
