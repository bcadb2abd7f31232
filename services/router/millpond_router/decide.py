"""Which model answers a request, how urgent it is and when it is due, with the reasons. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from millpond.v1 import request_pb2, result_pb2
from millpond_core.errors import Code, Refused
from millpond_core.settings import RESERVED_MODELS, ModelSettings, Settings, TierSettings
from millpond_router.features import Features

CHOSEN_BY_REQUEST = "request.model"
OVER_CONTEXT = "context.tokens"
NEAR_DEADLINE = "deadline.near"
NO_EMBEDDING = "embedder.unavailable"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a classifier says. model: "small", "frontier" or a configured name. tier: None leaves it as it is."""

    model: str
    tier: request_pb2.Tier | None
    reason: result_pb2.Reason


class Classifier(Protocol):
    """Chooses for a request that leaves the model open. The rules are one; a learned model is another."""

    def choose(self, features: Features) -> Choice: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A model as the router knows it."""

    name: str
    route: result_pb2.Route
    context_tokens: int


@dataclass(frozen=True)
class Policy:
    """targets: by everything that a request or a rule may call a model, "small" and "frontier" included."""

    targets: Mapping[str, Target]
    tiers: TierSettings


def policy_of(settings: Settings) -> Policy:
    targets = {model.name: _target(model) for model in settings.models}
    small, frontier = settings.model_of_role("small"), settings.model_of_role("frontier")
    return Policy({**targets, "small": targets[small.name], "frontier": targets[frontier.name]}, settings.tiers)


def model_names(policy: Policy) -> frozenset[str]:
    """Everything that a request's `model` may be."""
    return frozenset({*policy.targets, *RESERVED_MODELS})


def decide(features: Features, classifier: Classifier, policy: Policy, accepted_s: float) -> result_pb2.Decision:
    """The decision for a valid request.

    accepted_s: when the broker appended it, in seconds since 1970; tiers count from there.
    Raises Refused, CONTEXT_LENGTH_EXCEEDED, where prompt and answer are certainly longer than the model's context.
    """
    tier = features.tier
    if features.model in ("", "auto"):
        choice = classifier.choose(features)
        target, reasons = _roomy(policy.targets[choice.model], features, policy)
        reasons = [choice.reason, *reasons]
        tier = tier or choice.tier or request_pb2.TIER_UNSPECIFIED
    else:
        target = policy.targets[features.model]
        reasons = [result_pb2.Reason(code=CHOSEN_BY_REQUEST, detail=features.model)]
    _check_context(features, target)
    if features.vector is None:
        reasons.append(result_pb2.Reason(code=NO_EMBEDDING))
    if not tier:
        tier, more = _tier_by_deadline(features, policy, accepted_s)
        reasons.extend(more)
    decision = result_pb2.Decision(reasons=reasons, tier=tier, route=target.route, model=target.name)
    due_s = accepted_s + policy.tiers.seconds(tier) if features.deadline_s is None else features.deadline_s
    decision.deadline.FromNanoseconds(round(due_s * 1e3) * 1_000_000)
    return decision


def _target(model: ModelSettings) -> Target:
    """A model without a role goes where models of its kind are called from."""
    small = model.role == "small" or (model.role is None and model.kind == "triton")
    route = result_pb2.ROUTE_SMALL if small else result_pb2.ROUTE_FRONTIER
    return Target(model.name, route, model.context_tokens)


def _roomy(target: Target, features: Features, policy: Policy) -> tuple[Target, Sequence[result_pb2.Reason]]:
    """The frontier model in place of one whose context the request may not fit into."""
    frontier = policy.targets["frontier"]
    needed = features.tokens + features.max_tokens
    if needed <= target.context_tokens or frontier.context_tokens <= target.context_tokens:
        return target, ()
    return frontier, (result_pb2.Reason(code=OVER_CONTEXT, value=needed),)


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
