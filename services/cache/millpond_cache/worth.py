"""What an answer is worth, and which are to go when there are too many. Pure, but for what `Uses` counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import ceil

from millpond.v1 import result_pb2
from millpond_cache.store import Kept
from millpond_core.cost import Price, cost

MOST_USED = 200_000
"""Entries whose uses are counted, those used last: some 30 MB. The others count as not used."""

AGE_H = 1.0
"""Hours added to every age: an answer of a minute ago that was used once is not used sixty times an hour."""


class Uses:
    """How often each entry was given, by its key, by this replica since it began. In memory.

    Requests come to the replicas by their ids, whatever they ask, so that each sees its share of every entry's uses.
    """

    def __init__(self, most: int = MOST_USED) -> None:
        self._most = most
        self._counts: OrderedDict[str, int] = OrderedDict()

    def note(self, key: str) -> None:
        self._counts[key] = self._counts.pop(key, 0) + 1
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def of(self, key: str) -> int:
        return self._counts.get(key, 0)


def worth(kept: Kept, uses: int, prices: Mapping[str, Price], now: float) -> float:
    """Dollars that the entry saves in an hour, as far as its uses tell: the cost of its answer, times how often it is
    given. One that was not given yet counts as given once.

    prices: by model; one that is not there costs nothing, and what it answered is worth nothing.
    Source: the cost-aware replacement of GreedyDual-Size-Frequency (Cherkasova 1998), with a rate for its clock.
    """
    price = prices.get(kept.model)
    if price is None:
        return 0.0
    usage = result_pb2.Usage(input_tokens=kept.input_tokens, output_tokens=kept.output_tokens)
    age_h = max(now - kept.answered_at, 0.0) / 3600
    return float(cost(usage, price)) * (uses + 1) / (age_h + AGE_H)


def least(entries: Sequence[Kept], share: float, uses: Uses, prices: Mapping[str, Price], now: float) -> list[str]:
    """The keys of this share of the entries, rounded up: of those that are worth least."""
    ranked = sorted(entries, key=lambda each: (worth(each, uses.of(each.key), prices, now), each.answered_at))
    return [each.key for each in ranked[: ceil(len(ranked) * share)]]
