"""What became of every request. Pure: over what was accepted and what lies on the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from millpond.v1 import result_pb2
from millpond_cli.chaos.load import Sending
from millpond_core.errors import Code

Who = tuple[str, str]
"""Tenant and id."""


@dataclass(frozen=True)
class DeadLetter:
    reason: str
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Findings:
    """lost: requests without a result. duplicates: those with more than one, once for each beyond the first.

    strangers: results of requests that nobody sent. wrong: results with an answer to another request.
    unburied: conflicts and unreadable records without a dead letter. buried: dead letters beyond what was asked for.
    model_served: requests that a model answered. retries: attempts that failed, as the results tell.
    """

    requests: int
    results: int
    lost: Sequence[Who]
    duplicates: Sequence[Who]
    strangers: Sequence[Who]
    wrong: Sequence[Who]
    unburied: Sequence[str]
    buried: Sequence[str]
    dead_letters: int
    errors: Mapping[str, int]
    expired: int
    model_served: int
    retries: int


def verify(
    accepted: Collection[Sending],
    doubtful: Collection[Sending],
    results: Sequence[result_pb2.Result],
    dead_letters: Sequence[DeadLetter],
    *,
    echoes: bool,
) -> Findings:
    """accepted: what Kafka, or the sync tier, has confirmed. doubtful: what it has not: it may have a result or none.

    echoes: whether an answer is its prompt. Copies, conflicts and unreadable records are among accepted.
    """
    sent = {(each.tenant, each.id): each for each in (*accepted, *doubtful) if each.kind == "request"}
    due = {(each.tenant, each.id) for each in accepted if each.kind in ("request", "copy")}
    count = Counter((result.tenant, result.id) for result in results)
    prompts = {(each.tenant, each.id): each.prompt for each in accepted if each.kind == "request"}
    return Findings(
        requests=len(due),
        results=len(results),
        lost=sorted(due - count.keys()),
        duplicates=sorted(who for who, times in count.items() for _ in range(times - 1)),
        strangers=sorted(count.keys() - sent.keys()),
        wrong=[
            (result.tenant, result.id)
            for result in results
            if echoes
            and result.status == result_pb2.STATUS_OK
            and prompts.get((result.tenant, result.id), "") not in result.output.text
        ],
        **_buried(accepted, doubtful, dead_letters),
        dead_letters=len(dead_letters),
        errors=Counter(result.error.code for result in results if result.status == result_pb2.STATUS_ERROR),
        expired=sum(result.status == result_pb2.STATUS_EXPIRED for result in results),
        model_served=sum(
            result.served_by.route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER) for result in results
        ),
        retries=sum(len(result.attempts) for result in results),
    )


def _buried(
    accepted: Collection[Sending], doubtful: Collection[Sending], dead_letters: Sequence[DeadLetter]
) -> dict[str, Sequence[str]]:
    """The router delivers at least once, so a record may have more than one dead letter, but none may lack it."""
    conflicts, unreadable = _to_bury(accepted)
    perhaps_conflicts, perhaps_unreadable = _to_bury(doubtful)
    conflicting = {each.key for each in dead_letters if each.reason == Code.ID_CONFLICT}
    malformed = {each.value for each in dead_letters if each.reason == Code.MALFORMED}
    others = [each.reason for each in dead_letters if each.reason not in (Code.ID_CONFLICT, Code.MALFORMED)]
    unasked = (conflicting - conflicts - perhaps_conflicts) | (malformed - unreadable - perhaps_unreadable)
    return {
        "unburied": sorted(repr(each) for each in (conflicts - conflicting) | (unreadable - malformed)),
        "buried": sorted([repr(each) for each in unasked] + others),
    }


def _to_bury(sendings: Collection[Sending]) -> tuple[set[bytes], set[bytes]]:
    """(keys of conflicts, bodies that cannot be read)."""
    return (
        {each.key for each in sendings if each.kind == "conflict"},
        {each.body for each in sendings if each.kind == "unreadable"},
    )


def longest_stall_s(came: Iterable[float], went: Iterable[float]) -> float:
    """The longest time in which a stage had work and finished none, in seconds.

    came, went: when records were written to what it reads, and to what it writes, in seconds. Work that is counted
    twice on its way in (a copy that is dropped) makes what is found longer, never shorter.
    """
    events = sorted([*((at, 1) for at in came), *((at, -1) for at in went)])
    waiting, since, longest = 0, 0.0, 0.0
    for at, change in events:
        if change > 0:
            since = at if waiting <= 0 else since
        else:
            longest = max(longest, at - since) if waiting > 0 else longest
            since = at
        waiting = max(waiting + change, 0)
    return round(longest, 2)
