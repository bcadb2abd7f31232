"""Which calls the sync tier takes, and as what."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1 import request_pb2, result_pb2
from millpond_core.errors import Code, Refused
from millpond_core.identity import body_hash
from millpond_core.settings import Settings
from millpond_frontier.accept import HEARD_S, Accepted, Terms, accept
from millpond_frontier.settings import FrontierSection

SETTINGS = Settings.model_validate({})
SMALL, LARGE = (SETTINGS.model_of_role(role) for role in ("small", "frontier"))
TERMS = Terms(SETTINGS, FrontierSection(), {LARGE.name: LARGE})
NOW = 1_800_000_000.0


def request(**fields: object) -> request_pb2.Request:
    message = request_pb2.Message(role="user", content="What is a mill?")
    return request_pb2.Request(**{"messages": [message], **fields})  # pyright: ignore


def accepted(asked: request_pb2.Request, remaining_s: float | None = None) -> Accepted:
    return accept(asked.SerializeToString(), TERMS, "fresh", remaining_s, NOW)


@pytest.mark.parametrize("name", ["", "auto", "frontier", LARGE.name])
def test_a_request_is_complete_realtime_and_the_large_models(name: str) -> None:
    routed = accepted(request(model=name, tier=request_pb2.TIER_OVERNIGHT)).routed
    assert (routed.request.id, routed.request.tenant) == ("fresh", "default")
    assert routed.request.tier == routed.decision.tier == request_pb2.TIER_REALTIME
    assert (routed.decision.route, routed.decision.model) == (result_pb2.ROUTE_FRONTIER, LARGE.name)
    assert routed.decision.reasons


@pytest.mark.parametrize("name", ["small", SMALL.name])
def test_a_model_that_is_no_providers_is_refused_with_the_way_to_go(name: str) -> None:
    with pytest.raises(Refused, match=r"ai\.requests with tier realtime") as refused:
        accepted(request(model=name))
    assert refused.value.code == Code.UNKNOWN_MODEL


def test_a_field_that_has_no_meaning_is_refused() -> None:
    unknown = request_pb2.Request.FromString(request().SerializeToString() + b"\xf8\x06\x01")
    with pytest.raises(Refused) as refused:
        accepted(unknown)
    assert refused.value.code == Code.UNKNOWN_FIELD


@given(st.one_of(st.none(), st.floats(0, 3600)), st.one_of(st.none(), st.integers(1, 3600)))
@settings(deadline=None)
def test_a_deadline_is_the_callers_where_there_is_one(remaining_s: float | None, named_s: int | None) -> None:
    asked = request()
    if named_s is not None:
        asked.deadline.FromSeconds(int(NOW) + named_s)
    left_s = accepted(asked, remaining_s).deadline_s - NOW
    callers = [each for each in (named_s, None if remaining_s is None else remaining_s - HEARD_S) if each is not None]
    assert left_s == pytest.approx(min(callers, default=SETTINGS.tiers.realtime_s), abs=0.001)


def test_a_calls_deadline_makes_no_other_request_of_it() -> None:
    assert accepted(request(id="a"), 3.0).body == accepted(request(id="a"), 9.0).body


def test_a_copy_on_ai_requests_is_known_as_one() -> None:
    # The router completes a request in this way before it makes its hash.
    as_routed = request(id="a", tenant="default", tier=request_pb2.TIER_STANDARD, model="auto")
    assert accepted(request(id="a")).body == body_hash(as_routed)
    assert accepted(request(id="a", model="frontier")).body != body_hash(as_routed)
