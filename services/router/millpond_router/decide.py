"""Which model answers a request, how urgent it is and when it is due, with the reasons. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from millpond.v1 import request_pb2, result_pb2
from millpond_core.cost import Price
from millpond_core.errors import Code, Refused
from millpond_core.settings import RESERVED_MODELS, ModelSettings, Settings, TierSettings
from millpond_router.calibration import Calibration
from millpond_router.features import Features
from millpond_router.heads import Reading
from millpond_router.options import Bounds, Candidate, expected_cost, judgement, pick

if TYPE_CHECKING:
    from millpond_router.settings import QualitySection

CHOSEN_BY_REQUEST = "request.model"
OVER_CONTEXT = "context.tokens"
NEAR_DEADLINE = "deadline.near"
NO_EMBEDDING = "embedder.unavailable"
NO_HEADS = "heads.unavailable"
NONE_POSSIBLE = "quality.none_possible"
"""Of no model that may have the request is anything promised: the rules decide."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rules say.

    model: "small", "frontier" or a configured name. open: it is only what is left where nothing is known of quality.
    tier: None leaves it as it is. min_quality, price_weight: None leaves them as they are. forbidden: by any name.
    """

    model: str
    tier: request_pb2.Tier | None
    reason: result_pb2.Reason
    open: bool = False
    min_quality: float | None = None
    price_weight: float | None = None
    forbidden: frozenset[str] = frozenset()


class Classifier(Protocol):
    """Chooses for a request that leaves the model open, or says what the choice by quality is bound by."""

    def choose(self, features: Features) -> Choice: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A model as the router knows it. answer_s: seconds that an answer usually takes."""

    name: str
    route: result_pb2.Route
    context_tokens: int
    price: Price
    resembles: str | None = None
    domains: frozenset[str] = frozenset()
    answer_s: float = 0.0


@dataclass(frozen=True)
class Learned:
    """What outcomes said of the promises of these heads. calibrations: by configured model; version: "" for none."""

    version: str = ""
    heads: str = ""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict[str, Calibration])


@dataclass(frozen=True)
class Policy:
    """targets: by everything that a request or a rule may call a model, "small" and "frontier" included.

    bounds: by tenant; "" for all others.
    """

    targets: Mapping[str, Target]
    tiers: TierSettings
    bounds: Mapping[str, Bounds] = field(default_factory=lambda: {"": Bounds()})
    learned: Learned = Learned()

    def with_learned(self, learned: Learned) -> Policy:
        return replace(self, learned=learned)

    @property
    def models(self) -> Collection[Target]:
        """Each configured model once, in the order of the configuration."""
        return {target.name: target for target in self.targets.values()}.values()


def policy_of(settings: Settings, quality: QualitySection | None = None) -> Policy:
    targets = {model.name: _target(model) for model in settings.models}
    small, frontier = settings.model_of_role("small"), settings.model_of_role("frontier")
    named = {**targets, "small": targets[small.name], "frontier": targets[frontier.name]}
    return Policy(named, settings.tiers, quality.bounds() if quality else {"": Bounds()})


def model_names(policy: Policy) -> frozenset[str]:
    """Everything that a request's `model` may be."""
    return frozenset({*policy.targets, *RESERVED_MODELS})


def decide(features: Features, classifier: Classifier, policy: Policy, accepted_s: float) -> result_pb2.Decision:
    """The decision for a valid request.

    accepted_s: when the broker appended it, in seconds since 1970; tiers count from there.
    Raises Refused: CONTEXT_LENGTH_EXCEEDED where prompt and answer are certainly longer than the model's context,
    MODEL_FORBIDDEN where a rule forbids every model.
    """
    tier = features.tier
    bounds = policy.bounds.get(features.tenant, policy.bounds[""])
    candidates: Sequence[Candidate] = ()
    forced = features.model not in ("", "auto")
    if forced:
        target = policy.targets[features.model]
        reasons = [result_pb2.Reason(code=CHOSEN_BY_REQUEST, detail=features.model)]
        candidates = _candidates(features, bounds, policy, None)
    else:
        choice = classifier.choose(features)
        tier = tier or choice.tier or request_pb2.TIER_UNSPECIFIED
        bounds = _bounded(bounds, choice, policy)
        candidates = _candidates(features, bounds, policy, _left_s(features, tier, policy, accepted_s))
        if all(each.name in bounds.forbidden for each in policy.models):
            told = f"{choice.reason.code}: forbids every model for this request: allow one in the router's rules"
            raise Refused(Code.MODEL_FORBIDDEN, told)
        target, reasons, forced = _choose(features, choice, bounds, candidates, policy)
    _check_context(features, target)
    if features.vector is None:
        reasons.append(result_pb2.Reason(code=NO_EMBEDDING))
    if not tier:
        tier, more = _tier_by_deadline(features, policy, accepted_s)
        reasons.extend(more)
    decision = result_pb2.Decision(
        reasons=reasons, tier=tier, route=target.route, model=target.name, forbidden=sorted(bounds.forbidden)
    )
    if features.reading is not None:
        language, learned = features.language, policy.learned.version
        told = judgement(
            features.reading, candidates, bounds, target.name, forced=forced, language=language, learned=learned
        )
        decision.judgement.CopyFrom(told)
    due_s = accepted_s + policy.tiers.seconds(tier) if features.deadline_s is None else features.deadline_s
    decision.deadline.FromNanoseconds(round(due_s * 1e3) * 1_000_000)
    return decision


def _choose(
    features: Features, choice: Choice, bounds: Bounds, candidates: Sequence[Candidate], policy: Policy
) -> tuple[Target, list[result_pb2.Reason], bool]:
    """(the model, why, whether the rules alone named it).

    Quality has a say where the rules leave the model open and a floor is asked for, or a model is forbidden.
    """
    reasons = [choice.reason]
    if choice.open and (bounds.min_quality > 0 or choice.price_weight is not None or bounds.forbidden):
        picked = pick(candidates, bounds, features.reading) if features.reading is not None else None
        if picked is not None:
            return policy.targets[picked[0].name], [*reasons, picked[1]], False
        if bounds.min_quality > 0:
            code = NO_HEADS if features.reading is None else NONE_POSSIBLE
            reasons.append(result_pb2.Reason(code=code, value=bounds.min_quality))
    target, more = _allowed(policy.targets[choice.model], features, bounds, policy)
    return target, [*reasons, *more], True


def _bounded(bounds: Bounds, choice: Choice, policy: Policy) -> Bounds:
    """A rule may raise a floor, and not lower it: it is what a tenant was promised."""
    floor = max(bounds.min_quality, choice.min_quality or 0.0)
    weight = bounds.price_weight if choice.price_weight is None else choice.price_weight
    forbidden = frozenset(policy.targets[name].name for name in choice.forbidden)
    return replace(bounds, min_quality=floor, price_weight=weight, forbidden=forbidden)


def _left_s(features: Features, tier: request_pb2.Tier, policy: Policy, accepted_s: float) -> float:
    """Seconds from the request's append to its deadline."""
    return policy.tiers.seconds(tier) if features.deadline_s is None else features.deadline_s - accepted_s


def _candidates(features: Features, bounds: Bounds, policy: Policy, left_s: float | None) -> list[Candidate]:
    """Every configured model; none where nothing is known of the prompt."""
    reading = features.reading
    if reading is None:
        return []
    return [
        _candidate(target, features, reading, bounds=bounds, learned=policy.learned, left_s=left_s)
        for target in policy.models
    ]


def _candidate(
    target: Target, features: Features, reading: Reading, *, bounds: Bounds, learned: Learned, left_s: float | None
) -> Candidate:
    raw = reading.quality.get(target.resembles) if target.resembles else None
    line = learned.calibrations.get(target.name)
    quality = line.of(raw) if line is not None and raw is not None else raw
    obstacle = ""
    if target.name in bounds.forbidden:
        obstacle = "forbidden"
    elif features.tokens + features.max_tokens > target.context_tokens:
        obstacle = "context"
    elif target.domains and reading.domain not in target.domains:
        obstacle = "domain"
    elif left_s is not None and target.answer_s > left_s:
        obstacle = "latency"
    return Candidate(
        target.name, quality, raw, expected_cost(features.tokens, features.max_tokens, target.price), obstacle
    )


def _target(model: ModelSettings) -> Target:
    """A model without a role goes where models of its kind are called from."""
    small = model.role == "small" or (model.role is None and model.kind == "triton")
    route = result_pb2.ROUTE_SMALL if small else result_pb2.ROUTE_FRONTIER
    return Target(
        name=model.name,
        route=route,
        context_tokens=model.context_tokens,
        # That is how every call is made.
        price=model.price.synchronous,
        resembles=model.resembles,
        domains=frozenset(model.domains),
        answer_s=model.answer_s,
    )


def _allowed(
    target: Target, features: Features, bounds: Bounds, policy: Policy
) -> tuple[Target, Sequence[result_pb2.Reason]]:
    """Another one in place of a model that is forbidden, or whose context the request may not fit into: the frontier
    model; where that is forbidden, the first that holds the request, or else holds most.
    """
    needed = features.tokens + features.max_tokens
    frontier = policy.targets["frontier"]
    others = policy.models if frontier.name in bounds.forbidden else [frontier]
    allowed = [each for each in (target, *others) if each.name not in bounds.forbidden]
    roomy = [each for each in allowed if needed <= each.context_tokens]
    found = roomy[0] if roomy else max(allowed, key=lambda each: each.context_tokens)
    if found == target or target.name in bounds.forbidden:
        return found, ()
    return found, (result_pb2.Reason(code=OVER_CONTEXT, value=needed),)


def _check_context(features: Features, target: Target) -> None:
    # Half of the estimate is fewer tokens than real text has: what is refused could not be served.
    if features.tokens // 2 + features.max_tokens > target.context_tokens:
        reason = (
            f"messages: about {features.tokens} tokens, an answer of up to {features.max_tokens} besides, and "
            f"{target.name} holds {target.context_tokens}: shorten them, or lower params.max_tokens"
        )
        raise Refused(Code.CONTEXT_LENGTH_EXCEEDED, reason)


def _tier_by_deadline(
    features: Features, policy: Policy, accepted_s: float
) -> tuple[request_pb2.Tier, Sequence[result_pb2.Reason]]:
    """Standard, but for a deadline that only the realtime tier would keep."""
    if features.deadline_s is not None:
        left_s = features.deadline_s - accepted_s
        if left_s <= policy.tiers.realtime_s:
            return request_pb2.TIER_REALTIME, (result_pb2.Reason(code=NEAR_DEADLINE, value=round(left_s, 3)),)
    return request_pb2.TIER_STANDARD, ()
