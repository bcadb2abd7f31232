"""The least probability of a hit, for each question and entry: budgets, the calibration, and what was judged since."""

from __future__ import annotations

from functools import lru_cache
from math import exp, floor, log

from millpond_cache.accuracy import believed
from millpond_cache.budget import Calibration, own_budget, shipped_calibration
from millpond_cache.settings import CacheSettings

GRAIN = 50
"""Steps in which budgets are told apart, per factor of e: thresholds are worked out once for each."""


class Judged:
    """How many hits were judged, and how many were wrong, by entry, by cluster and by tenant, as weighed by who judged
    them (accuracy.py). In memory.

    Bounded: those judged longest ago are forgotten first.
    """

    def __init__(self, most_entries: int = 100_000) -> None:
        self._most = most_entries
        self._counts: dict[str, tuple[float, float]] = {}

    def judge(self, name: str, hits: float, wrong: float) -> None:
        hits_before, wrong_before = self._counts.pop(name, (0.0, 0.0))
        self._counts[name] = (hits_before + hits, wrong_before + wrong)
        while len(self._counts) > self._most:
            self._counts.pop(next(iter(self._counts)))

    def of(self, name: str) -> tuple[float, float]:
        """(hits, wrong hits)."""
        hits, wrong = self._counts.get(name, (0.0, 0.0))
        return hits, believed(hits, wrong)


class Thresholds:
    def __init__(self, settings: CacheSettings, judged: Judged, calibration: Calibration | None = None) -> None:
        """calibration: the one that was shipped, unless another is given."""
        self._settings = settings
        self._judged = judged
        calibration = calibration or shipped_calibration()
        self._of_budget = lru_cache(1024)(calibration.threshold)

    def budget(self, tenant: str, model: str) -> float:
        """The tenant's and the model's, the smaller of them, or else the one for all."""
        by_tenant, by_model = self._settings.error_budget_by_tenant, self._settings.error_budget_by_model
        own = [budgets[name] for budgets, name in ((by_tenant, tenant), (by_model, model)) if name in budgets]
        return min(own, default=self._settings.error_budget)

    def of(self, tenant: str, model: str, source_id: str, cluster: str = "") -> float:
        """source_id: of the entry that would be given. cluster: of the question; "" where it is not known. What was
        judged of these, and of the tenant, can only raise it.
        """
        budget = self.budget(tenant, model)
        names = [tenant_name(tenant), entry_name(tenant, source_id)]
        if cluster:
            names.append(cluster_name(tenant, cluster))
        own = min(own_budget(budget, *self._judged.of(name)) for name in names)
        # Rounded down, so that few budgets are asked for, and none that is greater.
        return self._of_budget(own if own == budget else _rounded_down(own))


def tenant_name(tenant: str) -> str:
    return f"tenant {tenant}"


def cluster_name(tenant: str, cluster: str) -> str:
    return f"cluster {tenant}/{cluster}"


def entry_name(tenant: str, source_id: str) -> str:
    return f"entry {tenant}/{source_id}"


def _rounded_down(budget: float) -> float:
    return exp(floor(log(budget) * GRAIN) / GRAIN)
