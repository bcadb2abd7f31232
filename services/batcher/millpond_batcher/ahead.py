"""Which of what waits unread the plan is to have before its turn, and how much work all of it is. Pure.

What is in hand came in the order of the topic. The plan asks for another one: each tenant's earliest deadline first. So
each tenant's first requests by deadline are fetched where they are not in hand, as many as the engine runs at a time:
what a plan over everything would send next is then among what the plan sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from millpond_core.processor import NEVER

EARLIER_MS = 1000
"""A deadline counts as earlier by so many milliseconds: what came at the same time is had in its turn."""

GRID_S = 10
"""Deadlines of what waits unread are told apart to so many seconds, and to the last of them a day ahead."""

_GRID_STEPS = 24 * 3600 // GRID_S


def ahead(rows: NDArray[np.void], hand: Mapping[int, Sequence[int]], *, most: int, room: int) -> NDArray[np.int64]:
    """Offsets of what is to be fetched, in ascending order.

    rows: of one model and tier, as in `unread.ROW`. hand: by tenant's mark, deadlines of its first requests in hand, in
    milliseconds since 1970 and in ascending order. most: of a tenant's requests that are wanted in hand; room: of
    those that are fetched.

    Where there is not room for all, the tenants' first go before their second ones, and so on.
    """
    wanted = rows[rows["deadline_ms"] < _bounds(rows["tenant"], hand, most) - EARLIER_MS]
    wanted = wanted[np.lexsort((wanted["offset"], wanted["deadline_ms"], wanted["tenant"]))]
    if not len(wanted) or room <= 0:
        return np.empty(0, np.int64)
    begins = np.flatnonzero(np.append(True, wanted["tenant"][1:] != wanted["tenant"][:-1]))
    ends = np.append(begins[1:], len(wanted))
    places = np.arange(len(wanted)) - np.repeat(begins, ends - begins)
    for begin, end in zip(begins, ends, strict=True):
        if own := hand.get(int(wanted["tenant"][begin])):
            places[begin:end] += np.searchsorted(own, wanted["deadline_ms"][begin:end] + EARLIER_MS, side="right")
    near = places < most
    wanted, places = wanted[near], places[near]
    first = np.lexsort((wanted["offset"], wanted["deadline_ms"], places))[:room]
    return np.sort(wanted["offset"][first])


def demand(rows: NDArray[np.void], now: float) -> Sequence[tuple[float, float]]:
    """(deadline in seconds since 1970, tokens due by it), in ascending order; rounded to the earlier."""
    begin = int(now) // GRID_S
    steps = np.clip(rows["deadline_ms"] // (GRID_S * 1000) - begin, 0, _GRID_STEPS)
    tokens = np.bincount(steps, rows["tokens"], minlength=1)
    return [(float(begin + step) * GRID_S, float(tokens[step])) for step in np.flatnonzero(tokens)]


def _bounds(tenants: NDArray[np.uint64], hand: Mapping[int, Sequence[int]], most: int) -> NDArray[np.int64]:
    """Of each: the deadline of its tenant's last request that is wanted in hand, where so many are."""
    full = {mark: deadlines[most - 1] for mark, deadlines in hand.items() if len(deadlines) >= most}
    marks = np.array(sorted(full), np.uint64)
    # One more than there are, for tenants beyond the last.
    bounds = np.array([*(full[int(mark)] for mark in marks), NEVER], np.int64)
    places = np.searchsorted(marks, tenants)
    is_full = np.append(marks, np.uint64(0))[places] == tenants
    return np.where(is_full & (places < len(marks)), bounds[places], NEVER)
