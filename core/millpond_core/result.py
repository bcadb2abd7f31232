"""From a request and its outcome to its result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.cost import cost, dollars, synchronous_cost
from millpond_core.errors import Code

if TYPE_CHECKING:
    from millpond_core.settings import ModelSettings

EXPIRED = result_pb2.Error(
    code=Code.DEADLINE_PASSED, message="the deadline passed before there was an answer", retryable=True
)

CANCELLED = result_pb2.Error(code=Code.CANCELLED, message="cancelled by a record on ai.control", retryable=True)


@dataclass(frozen=True)
class Answer:
    """The request is answered. usage: of the call that made the answer, whenever that was."""

    output: result_pb2.Output
    served_by: result_pb2.ServedBy
    usage: result_pb2.Usage

    @property
    def from_model(self) -> bool:
        return self.served_by.route != result_pb2.ROUTE_CACHE


@dataclass(frozen=True)
class Failure:
    """The request will not be answered, and why. dead_letter: it is not to be tried again before a person saw it."""

    error: result_pb2.Error
    dead_letter: bool = False

    @property
    def status(self) -> result_pb2.Status:
        return _STATUSES.get(self.error.code, result_pb2.STATUS_ERROR)


_STATUSES: dict[str, result_pb2.Status] = {
    Code.DEADLINE_PASSED: result_pb2.STATUS_EXPIRED,
    Code.CANCELLED: result_pb2.STATUS_CANCELLED,
}


def settled(routed: envelope_pb2.Routed) -> Answer | Failure | None:
    """What became of a request before it entered: refused by the router, or answered by the sync tier."""
    match routed.WhichOneof("settled"):
        case "reject":
            return Failure(routed.reject)
        case "answered" if routed.answered.status == result_pb2.STATUS_OK:
            return Answer(routed.answered.output, routed.answered.served_by, routed.answered.usage)
        case "answered":
            return Failure(routed.answered.error)
        case _:
            return None


def result_of(
    routed: envelope_pb2.Routed,
    outcome: Answer | Failure,
    models: Sequence[ModelSettings],
    now: float,
    trace_id: str,
) -> result_pb2.Result:
    """The result as consumers see it. now: seconds since 1970."""
    request = routed.request
    result = result_pb2.Result(
        id=request.id,
        tenant=request.tenant,
        decision=routed.decision,
        attempts=routed.attempts,
        timings_ms=routed.timings_ms,
        trace_id=trace_id,
        metadata=request.metadata,
        replay=routed.replay,
    )
    result.timings_ms["total"] = round((now - routed.accepted_at.ToNanoseconds() / 1e9) * 1000, 1)
    spent = sum((_cost(attempt.model, attempt.usage, models) for attempt in routed.attempts), Decimal(0))
    for attempt in routed.attempts:
        _add(result.usage, attempt.usage)
    if isinstance(outcome, Answer):
        result.status = result_pb2.STATUS_OK
        result.output.CopyFrom(outcome.output)
        result.served_by.CopyFrom(outcome.served_by)
        _add(result.usage, outcome.usage)
        if outcome.from_model:
            spent += _cost(outcome.served_by.model, outcome.usage, models)
    else:
        result.status = outcome.status
        result.error.CopyFrom(outcome.error)
    result.cost_usd = dollars(spent)
    result.cost_sync_usd = dollars(synchronous_cost(result.usage, models))
    return result


def learned(routed: envelope_pb2.Routed, outcome: Answer | Failure, now: float) -> envelope_pb2.Learned | None:
    """What the cache is to learn of an outcome: a model's answer, where the request lets it be kept."""
    if not isinstance(outcome, Answer) or not outcome.from_model:
        return None
    if routed.request.cache.mode == request_pb2.CACHE_MODE_BYPASS:
        return None
    answer = envelope_pb2.Learned(
        request=routed.request,
        output=outcome.output,
        served_by=outcome.served_by,
        usage=outcome.usage,
    )
    # The message itself says whether there is one: an absent embedding is matched exactly only.
    if routed.HasField("embedding"):
        answer.embedding.CopyFrom(routed.embedding)
    answer.answered_at.FromNanoseconds(int(now * 1e9))
    return answer


def _add(total: result_pb2.Usage, usage: result_pb2.Usage) -> None:
    total.input_tokens += usage.input_tokens
    total.output_tokens += usage.output_tokens


def _cost(model: str, usage: result_pb2.Usage, models: Sequence[ModelSettings]) -> Decimal:
    """By the synchronous price: that is how every call is made. A model that is configured no more costs nothing."""
    price = next((each.price.synchronous for each in models if each.name == model), None)
    return cost(usage, price) if price else Decimal(0)
