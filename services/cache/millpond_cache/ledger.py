"""What came of look-ups, and what was judged of hits, since this process began. In memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, floor

from millpond_cache.accuracy import believed
from millpond_cache.budget import PRIOR_HITS, lower_bound, upper_bound
from millpond_cache.decide import Verdict

MOST_TENANTS = 10_000
"""Tenants with an account of their own; those that come later are counted together only."""

ALL = ""
"""The account of all tenants together."""


@dataclass(slots=True)
class Account:
    """judged, wrong: verdicts on samples. weighed, weighed_wrong: the hits that these count for (accuracy.py)."""

    reasons: Counter[str] = field(default_factory=Counter[str])
    hits: int = 0
    judged: int = 0
    wrong: int = 0
    weighed: float = 0.0
    weighed_wrong: float = 0.0
    reported: int = 0
    reported_wrong: int = 0
    input_tokens_saved: int = 0
    output_tokens_saved: int = 0

    @property
    def lookups(self) -> int:
        return self.reasons.total()

    def error(self, budget: float) -> float:
        """The share of wrong hits: as judged, drawn towards the budget while few were judged."""
        return (self._wrong + PRIOR_HITS * budget) / (self.weighed + PRIOR_HITS)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share of wrong hits, at 95 %; from 0 to 1 where nothing is known. Clopper and Pearson 1934, for whole
        hits: what is less than one counts for none where it would narrow the interval.
        """
        low = lower_bound(floor(self._wrong), ceil(self.weighed), 0.975)
        return low, upper_bound(ceil(self._wrong), floor(self.weighed), 0.975)

    @property
    def _wrong(self) -> float:
        return believed(self.weighed, self.weighed_wrong)


class Ledger:
    def __init__(self) -> None:
        self._accounts: defaultdict[str, Account] = defaultdict(Account)

    @property
    def accounts(self) -> Mapping[str, Account]:
        return self._accounts

    def looked_up(self, tenant: str, verdict: Verdict) -> None:
        for account in self._of(tenant):
            account.reasons[verdict.reason.code] += 1
            if verdict.entry is not None:
                account.hits += 1
                account.input_tokens_saved += verdict.entry.input_tokens
                account.output_tokens_saved += verdict.entry.output_tokens

    def sampled(self, tenant: str, hits: float, wrong_hits: float, *, wrong: bool) -> None:
        """A hit was sampled, and judged: which hits are does not depend on what they are. hits, wrong_hits: what the
        verdict counts for.
        """
        for account in self._of(tenant):
            account.judged += 1
            account.wrong += wrong
            account.weighed += hits
            account.weighed_wrong += wrong_hits

    def reported(self, tenant: str, *, wrong: bool) -> None:
        """Somebody said of a hit what it was: of a wrong one more often than of a right one."""
        for account in self._of(tenant):
            account.reported += 1
            account.reported_wrong += wrong

    def account(self, tenant: str) -> Account:
        """An empty one for a tenant that asked nothing."""
        return self._accounts.get(tenant, Account())

    def _of(self, tenant: str) -> list[Account]:
        if tenant in self._accounts or len(self._accounts) < MOST_TENANTS:
            return [self._accounts[ALL], self._accounts[tenant]]
        return [self._accounts[ALL]]
