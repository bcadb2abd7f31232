"""From a call of the sync tier to a request on its way. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.codec import content_type_of, decode_request
from millpond_core.errors import Code, Refused
from millpond_core.identity import body_hash, complete
from millpond_core.settings import RESERVED_MODELS, ModelSettings, Settings
from millpond_core.validate import check_context, validate
from millpond_frontier.settings import FrontierSection

REASON = "sync.tier"
"""The first reason of every decision here."""

HEARD_S = 0.1
"""Seconds before a call's own deadline at which the request expires: its caller is to hear that."""


@dataclass(frozen=True)
class Terms:
    """What calls are accepted by. providers: models by their names."""

    settings: Settings
    own: FrontierSection
    providers: Mapping[str, ModelSettings]


@dataclass(frozen=True)
class Accepted:
    """body: tells a copy from another request of the same id."""

    routed: envelope_pb2.Routed
    body: bytes

    @property
    def deadline_s(self) -> float:
        return self.routed.decision.deadline.ToNanoseconds() / 1e9


def accept(asked: bytes, terms: Terms, fresh_id: str, remaining_s: float | None, now: float) -> Accepted:
    """The request, complete and decided. Its tier is realtime, whatever it says.

    asked: a request in protobuf, or what else was sent. fresh_id: for a request without one.
    remaining_s: until the call's deadline; None where it has none. now: seconds since 1970. Raises Refused.
    """
    models = {*RESERVED_MODELS, *(model.name for model in terms.settings.models)}
    request = request_pb2.Request()
    if asked:
        protobuf = content_type_of(envelope_pb2.WIRE_FORMAT_PROTOBUF)
        request, _ = decode_request(asked, protobuf, terms.own.max_request_bytes)
    validate(request, terms.settings.limits, models, now)
    model = _provider_for(request.model, terms)
    check_context(request, model.context_tokens)
    complete(request, fresh_id)
    body = body_hash(request)
    request.tier = request_pb2.TIER_REALTIME
    routed = envelope_pb2.Routed(
        request=request,
        decision=result_pb2.Decision(
            reasons=[result_pb2.Reason(code=REASON)],
            tier=request_pb2.TIER_REALTIME,
            route=result_pb2.ROUTE_FRONTIER,
            model=model.name,
        ),
        format=envelope_pb2.WIRE_FORMAT_PROTOBUF,
    )
    routed.accepted_at.FromMilliseconds(round(now * 1000))
    routed.decision.deadline.FromMilliseconds(round(_deadline_s(request, terms, remaining_s, now) * 1000))
    return Accepted(routed, body)


def _provider_for(name: str, terms: Terms) -> ModelSettings:
    wanted = terms.settings.model_of_role("frontier").name if name in ("", "auto", "frontier") else name
    if model := terms.providers.get(wanted):
        return model
    served = ", ".join(sorted(terms.providers))
    reason = f"the sync tier serves the models of providers ({served}): send it to ai.requests with tier realtime"
    raise Refused(Code.UNKNOWN_MODEL, f"model: {name or 'auto'}: {reason}")


def _deadline_s(request: request_pb2.Request, terms: Terms, remaining_s: float | None, now: float) -> float:
    """The earlier of the call's and the request's own; without either, the realtime tier's."""
    named: list[float] = []
    if request.HasField("deadline"):
        named.append(request.deadline.ToNanoseconds() / 1e9)
    if remaining_s is not None:
        named.append(now + remaining_s - HEARD_S)
    return min(named, default=now + terms.settings.tiers.realtime_s)
