"""Which of the configured models a prompt is worth: what each would cost, how likely it answers well. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from millpond.v1 import result_pb2
from millpond_core.cost import Price, cost, dollars
from millpond_router.heads import Reading

CHEAPEST = "quality.cheapest"
"""The reason where the chosen model is the cheapest that meets the floor, or the best bargain by the price's weight."""
NONE_MEETS = "quality.below_floor"
"""The reason where no model meets the floor: the one that is likeliest to answer well gets the request."""
UNSURE = "quality.unsure"
"""The reason where the prompt is so unlike what was learned from that no promise holds: the best model gets it."""

NOVEL = 0.99
"""A prompt is unlike what was learned from where it is more so than 99 in 100 of those texts were."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the choice is bound by.

    min_quality: the least probability of a good answer; 0 asks for none, and the rules decide alone. price_weight: 1
    takes the cheapest model that meets the floor; 0 the best one; between them, a dearer model must be better by so
    much. forbidden: models that are not to be chosen, by configured name.
    """

    min_quality: float = 0.0
    price_weight: float = 1.0
    forbidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configured model as the choice sees it.

    quality: calibrated by outcomes; raw_quality: as the heads say it; both None where nothing is known of it.
    obstacle: why it cannot be chosen, "" where it can.
    """

    name: str
    quality: float | None
    raw_quality: float | None
    cost_usd: Decimal
    obstacle: str = ""

    @property
    def possible(self) -> bool:
        return not self.obstacle and self.quality is not None


def expected_cost(tokens: int, max_tokens: int, price: Price) -> Decimal:
    """Dollars for a prompt of so many tokens and the longest answer that is allowed."""
    return cost(result_pb2.Usage(input_tokens=tokens, output_tokens=max_tokens), price)


def pick(
    candidates: Sequence[Candidate], bounds: Bounds, reading: Reading
) -> tuple[Candidate, result_pb2.Reason] | None:
    """The model to take, and why; None where no model is possible.

    Of those that meet the floor the least of price_weight · cost - (1 - price_weight) · quality is taken, costs counted
    in the dearest one's. Equal ones: the better, then the first.
    """
    possible = [each for each in candidates if each.possible]
    if not possible:
        return None
    best = max(possible, key=lambda each: (_quality(each), each.cost_usd))
    if reading.novelty > NOVEL:
        # Nothing like it was seen: the dearest is no worse a guess than any, and the safe one.
        safe = max(possible, key=lambda each: (each.cost_usd, _quality(each)))
        return safe, result_pb2.Reason(code=UNSURE, value=round(reading.novelty, 4), detail=safe.name)
    enough = [each for each in possible if _quality(each) >= bounds.min_quality]
    if not enough:
        return best, result_pb2.Reason(code=NONE_MEETS, value=round(_quality(best), 4), detail=best.name)
    dearest = max(each.cost_usd for each in enough) or Decimal(1)
    weight = bounds.price_weight

    def burden(each: Candidate) -> tuple[float, float]:
        return weight * float(each.cost_usd / dearest) - (1 - weight) * _quality(each), -_quality(each)

    taken = min(enough, key=burden)
    return taken, result_pb2.Reason(code=CHEAPEST, value=round(_quality(taken), 4), detail=taken.name)


def judgement(
    reading: Reading,
    candidates: Sequence[Candidate],
    bounds: Bounds,
    chosen: str,
    *,
    forced: bool,
    language: str,
    learned: str,
) -> result_pb2.Judgement:
    """What the decision carries to explain itself. learned: the version of the outcomes' calibration, "" for none.

    forced: the request or a rule named the model.
    """
    told = result_pb2.Judgement(
        heads=f"{reading.version}+{learned}" if learned else reading.version,
        domain=reading.domain,
        domain_probability=round(reading.domain_probability, 4),
        task=reading.task,
        difficulty=round(reading.difficulty, 4),
        out_of_scope=round(reading.out_of_scope, 4),
        novelty=round(reading.novelty, 4),
        features=_rounded(reading.counts),
        min_quality=bounds.min_quality,
        language=language,
    )
    for each in sorted(candidates, key=lambda candidate: candidate.cost_usd):
        option = told.options.add(
            model=each.name, cost_usd=dollars(each.cost_usd), verdict=_verdict(each, bounds, chosen, forced=forced)
        )
        if each.quality is not None and each.raw_quality is not None:
            option.quality, option.raw_quality = round(each.quality, 4), round(each.raw_quality, 4)
    return told


def _quality(candidate: Candidate) -> float:
    return candidate.quality or 0.0


def _verdict(candidate: Candidate, bounds: Bounds, chosen: str, *, forced: bool) -> str:
    if candidate.name == chosen:
        return "chosen"
    if candidate.obstacle:
        return candidate.obstacle
    if forced:
        return "forced"
    if candidate.quality is None or candidate.quality < bounds.min_quality:
        return "quality"
    return "cost"


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: round(number, 3) for name, number in numbers.items()}
