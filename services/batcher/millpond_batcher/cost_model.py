"""How long a row of a model runs, learned from the rows that ran. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millpond.v1 import request_pb2
from millpond.v1.request_pb2 import TIER_REALTIME

WINDOW = 256
"""Rows that are remembered: an engine that changes (other work beside it, a reload) is learned anew within so many."""

REFIT_EVERY = 16
"""Rows between two fits, at least, and a quarter of those that are remembered: a fit takes a millisecond, and few rows
move it little."""

HUBER_K = 1.345
"""Residuals beyond so many standard deviations count by their size and not by its square: 95 % as efficient as least
squares where errors are normal (Huber 1964)."""

ITERATIONS = 12
"""Of reweighting: it moves by less than a percent after them."""

PRIOR_ROWS = 1.0
"""What was configured weighs as much as so many rows that ran: it decides what the rows leave open, and no more."""

LEAST_S = 1e-3
"""No row takes less: what errors are shares of."""

LATE_QUANTILE = 0.9
"""A latest start leaves room for the slowest tenth, not for the mean."""


@dataclass(frozen=True)
class Ran:
    """A row that was answered. rows: how many ran beside it, itself included, on the average."""

    prompt_tokens: int
    output_tokens: int
    rows: float
    seconds: float


@dataclass(frozen=True)
class Cost:
    """latency = a · tokens + b, where a token costs more in a fuller engine; in seconds.

    token_s, row_token_s: of one token of the answer, and on top of it for each row that runs. prompt_token_s: of one
    token of the prompt. row_s: of a row without tokens. late: the share that a slow row takes longer.
    """

    token_s: float
    row_token_s: float
    prompt_token_s: float
    row_s: float = 0.0
    late: float = 0.0

    def run_s(self, prompt_tokens: int, output_tokens: int, rows: float) -> float:
        """Seconds that a row runs in an engine of so many rows, if it is one of the slow ones."""
        return self.mean_s(prompt_tokens, output_tokens, rows) * (1 + self.late)

    def mean_s(self, prompt_tokens: int, output_tokens: int, rows: float) -> float:
        token_s = self.token_s + self.row_token_s * rows
        return self.row_s + prompt_tokens * self.prompt_token_s + output_tokens * token_s

    def differs(self, other: Cost, rows: float) -> bool:
        """Whether latest starts told by the other would be off by more than a tenth, for a row of usual size."""
        one, two = self.run_s(128, 128, rows), other.run_s(128, 128, rows)
        return abs(one - two) > 0.1 * min(one, two)


class CostModel:
    """Fits `Cost` to the last rows: Huber's M-estimate, with what was configured as its beginning.

    prior: what to believe of an engine of so many rows before it has answered any.
    Source: Huber, Robust Estimation of a Location Parameter, 1964; by iteratively reweighted least squares.
    """

    def __init__(self, prior: Cost, rows: int) -> None:
        self._prior = prior
        self._rows = rows
        self._ran: deque[Ran] = deque(maxlen=WINDOW)
        self._since = 0
        self.cost = prior

    def observe(self, ran: Ran) -> None:
        self._ran.append(ran)
        self._since += 1
        if self._since >= max(REFIT_EVERY, len(self._ran) // 4):
            self._since = 0
            self.cost = self._fit()

    def _fit(self) -> Cost:
        """By relative errors: those of a long row are larger, and a latest start is missed by short rows as well."""
        features = np.array([_features(each) for each in self._ran])
        seconds = np.array([each.seconds for each in self._ran])
        prior = self._prior
        believed = np.array([prior.token_s, prior.row_token_s, prior.prompt_token_s, prior.row_s])
        # A usual row as the prior sees it, for each coefficient by itself: what the data does not tell stays there.
        usual = np.array([128.0, 128.0 * self._rows, 128.0, 1.0])
        ridge = np.diag((usual / max(usual @ believed, LEAST_S)) ** 2) * PRIOR_ROWS / len(usual)
        least_s = max(float(np.median(seconds)) / 10, LEAST_S)
        scale = np.maximum(seconds, least_s)
        weights = np.ones(len(seconds))
        found = believed
        for _ in range(ITERATIONS):
            found = _nonnegative(features, seconds, weights / scale**2, ridge, believed)
            scale = np.maximum(features @ found, least_s)
            residuals = (seconds - features @ found) / scale
            # The median's absolute deviation, as a standard deviation where errors are normal.
            spread = max(1.4826 * float(np.median(np.abs(residuals))), 1e-3)
            weights = np.minimum(1.0, HUBER_K * spread / np.maximum(np.abs(residuals), 1e-12))
        late = max(float(np.quantile((seconds - features @ found) / scale, LATE_QUANTILE)), 0.0)
        return Cost(*map(float, found), late=late)


class Costs:
    """Of one model: rows that go before the others run at another speed, and are learned by themselves."""

    def __init__(self, prior: Cost, rows: int) -> None:
        """As `CostModel` takes them."""
        self.bulk = CostModel(prior, rows)
        self.urgent = CostModel(prior, rows)

    def of_tier(self, tier: request_pb2.Tier) -> Cost:
        """The latest."""
        return (self.urgent if tier == TIER_REALTIME else self.bulk).cost


def _features(ran: Ran) -> Sequence[float]:
    return (ran.output_tokens, ran.output_tokens * ran.rows, ran.prompt_tokens, 1.0)


def _nonnegative(
    features: NDArray[np.float64],
    seconds: NDArray[np.float64],
    weights: NDArray[np.float64],
    ridge: NDArray[np.float64],
    believed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted ridge regression towards what is believed. No token takes less than no time: what would is left out."""
    weighted = features * weights[:, None]
    normal = features.T @ weighted + ridge
    wanted = weighted.T @ seconds + ridge @ believed
    found = np.zeros(len(believed))
    used = np.ones(len(believed), bool)
    while used.any():
        found[:] = 0.0
        found[used] = np.linalg.solve(normal[np.ix_(used, used)], wanted[used])
        if (found >= 0).all():
            break
        used &= found >= 0
    return found
