"""The laws of a decision: any valid request gets one, the same one each time, with reasons, and as the request says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.embedding import pack
from millpond_core.errors import Code, Refused
from millpond_core.settings import ModelSettings, PriceSettings, PricesSettings, Settings
from millpond_router import rules as rule_files
from millpond_router.calibration import Calibration
from millpond_router.decide import Learned, Policy, decide, model_names, policy_of
from millpond_router.features import Features, features_of
from millpond_router.heads import Reading
from millpond_router.options import CHEAPEST, NONE_MEETS
from millpond_router.settings import QualitySection

FREE = PriceSettings(Decimal(0), Decimal(0))
PRICES = PricesSettings(synchronous=FREE, batch=FREE)
FREE_PRICES = PRICES


def priced(dollars: str) -> PricesSettings:
    price = PriceSettings(Decimal(dollars), Decimal(dollars))
    return PricesSettings(synchronous=price, batch=price)


SETTINGS = Settings(
    models=[
        ModelSettings(name="little", kind="triton", role="small", context_tokens=2048, price=PRICES),
        ModelSettings(name="large", kind="openai", role="frontier", context_tokens=8192, price=PRICES),
        ModelSettings(name="own-on-triton", kind="triton", context_tokens=512, price=PRICES),
        ModelSettings(name="other-provider", kind="openai", context_tokens=100_000, price=PRICES),
    ]
)
POLICY = policy_of(SETTINGS)
RULES = rule_files.load(rule_files.SHIPPED, POLICY.targets)
ACCEPTED_S = 1_795_399_200.5

ROUTES = {
    "little": result_pb2.ROUTE_SMALL,
    "large": result_pb2.ROUTE_FRONTIER,
    "own-on-triton": result_pb2.ROUTE_SMALL,
    "other-provider": result_pb2.ROUTE_FRONTIER,
    "small": result_pb2.ROUTE_SMALL,
    "frontier": result_pb2.ROUTE_FRONTIER,
}

TIERS = st.sampled_from(
    [
        request_pb2.TIER_UNSPECIFIED,
        request_pb2.TIER_REALTIME,
        request_pb2.TIER_STANDARD,
        request_pb2.TIER_OVERNIGHT,
    ]
)


def embedding_of(numbers: list[float]) -> envelope_pb2.Embedding:
    vector = np.array(numbers, dtype=np.float32)
    return pack((vector / (np.linalg.norm(vector) or 1)).astype(np.float32), "embedder", 12)


EMBEDDINGS = st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4).map(embedding_of)


@st.composite
def features(draw: st.DrawFn, **given_fields: Any) -> Features:
    """Of any request that is valid and not too long."""
    request = request_pb2.Request(
        tenant=draw(st.sampled_from(["default", "acme"])),
        model=draw(st.sampled_from(sorted(model_names(POLICY)))),
        metadata=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
        messages=[
            request_pb2.Message(role=draw(st.sampled_from(["system", "user", "assistant"])), content=content)
            for content in draw(st.lists(st.text(max_size=60), min_size=1, max_size=4))
        ],
    )
    if draw(st.booleans()):
        request.params.max_tokens = draw(st.integers(1, 200))
    if draw(st.booleans()):
        request.deadline.FromSeconds(int(ACCEPTED_S) + draw(st.integers(1, 86_400)))
    language = draw(st.sampled_from(["", "en", "de", "zh"]))
    found = features_of(request, draw(TIERS), language, draw(st.none() | EMBEDDINGS))
    return replace(found, **given_fields)


@given(features())
def test_every_valid_request_gets_the_same_decision_with_reasons_each_time(request: Features) -> None:
    decision = decide(request, RULES, POLICY, ACCEPTED_S)
    assert decision == decide(request, RULES, POLICY, ACCEPTED_S)
    assert decision.reasons
    assert all(reason.code for reason in decision.reasons)
    assert decision.route in (result_pb2.ROUTE_SMALL, result_pb2.ROUTE_FRONTIER)
    assert ROUTES[decision.model] == decision.route
    assert decision.tier != request_pb2.TIER_UNSPECIFIED


@given(features(deadline_s=None))
def test_the_deadline_is_the_append_and_the_tiers_seconds(request: Features) -> None:
    decision = decide(request, RULES, POLICY, ACCEPTED_S)
    assert decision.deadline.ToNanoseconds() / 1e9 == ACCEPTED_S + SETTINGS.tiers.seconds(decision.tier)


@given(features(), st.integers(1, 86_400_000))
def test_a_deadline_that_is_asked_for_is_the_deadline(request: Features, ahead_ms: int) -> None:
    asked_s = ACCEPTED_S + ahead_ms / 1000
    decision = decide(replace(request, deadline_s=asked_s), RULES, POLICY, ACCEPTED_S)
    assert decision.deadline.ToMilliseconds() == round(asked_s * 1000)


@given(features(), TIERS)
def test_a_tier_that_is_asked_for_is_the_tier(request: Features, tier: request_pb2.Tier) -> None:
    assume(tier != request_pb2.TIER_UNSPECIFIED)
    assert decide(replace(request, tier=tier), RULES, POLICY, ACCEPTED_S).tier == tier


@given(features(), st.sampled_from(sorted(ROUTES)))
def test_a_model_that_is_asked_for_is_the_model(request: Features, model: str) -> None:
    decision = decide(replace(request, model=model), RULES, POLICY, ACCEPTED_S)
    assert decision.model == POLICY.targets[model].name
    assert decision.route == ROUTES[model]
    assert (decision.reasons[0].code, decision.reasons[0].detail) == ("request.model", model)


@given(features())
def test_a_missing_embedding_is_among_the_reasons(request: Features) -> None:
    codes = [reason.code for reason in decide(request, RULES, POLICY, ACCEPTED_S).reasons]
    assert ("embedder.unavailable" in codes) == (request.vector is None)


@given(features(), st.integers(0, 40_000), st.integers(1, 9_000))
def test_what_may_not_fit_goes_to_the_larger_model_and_what_cannot_is_refused(
    request: Features, tokens: int, max_tokens: int
) -> None:
    request = replace(request, tokens=tokens, max_tokens=max_tokens)
    asked = POLICY.targets.get(request.model)
    room = asked.context_tokens if asked else 8192
    if tokens // 2 + max_tokens > room:
        with pytest.raises(Refused) as refused:
            decide(request, RULES, POLICY, ACCEPTED_S)
        assert refused.value.code == Code.CONTEXT_LENGTH_EXCEEDED
        return
    decision = decide(request, RULES, POLICY, ACCEPTED_S)
    if asked is None and tokens + max_tokens > 2048:
        assert decision.model == "large"


def test_the_reason_for_the_larger_model_has_the_tokens() -> None:
    request = replace(plain("Name a colour."), max_tokens=2040)
    decision = decide(request, RULES, POLICY, ACCEPTED_S)
    assert [(reason.code, reason.value) for reason in decision.reasons[:2]] == [
        ("default", 0),
        ("context.tokens", request.tokens + 2040),
    ]


def test_a_deadline_that_only_the_realtime_tier_keeps_makes_it_realtime() -> None:
    request = plain("Name a colour.")
    near = decide(replace(request, deadline_s=ACCEPTED_S + 20), RULES, POLICY, ACCEPTED_S)
    assert near.tier == request_pb2.TIER_REALTIME
    assert (near.reasons[-1].code, near.reasons[-1].value) == ("deadline.near", 20)
    far = decide(replace(request, deadline_s=ACCEPTED_S + 200), RULES, POLICY, ACCEPTED_S)
    assert far.tier == request_pb2.TIER_STANDARD


def plain(text: str, language: str = "en") -> Features:
    request = request_pb2.Request(tenant="default", messages=[request_pb2.Message(role="user", content=text)])
    return features_of(request, request_pb2.TIER_UNSPECIFIED, language, embedding_of([1, 0, 0, 0]))


@pytest.mark.parametrize(
    ("text", "language", "code", "model"),
    [
        ("What is the capital of France?", "en", "default", "little"),
        ("Summarise: it returns a list of the tokens.", "en", "rule.given_text", "little"),
        ("Classify this review: what a waste of money", "en", "rule.given_text", "little"),
        ("Write a function that reverses a list in C++", "en", "rule.code", "large"),
        ("Prove that there are infinitely many primes", "en", "rule.mathematics", "large"),
        ("Compare and contrast the two treaties", "en", "rule.reasoning", "large"),
        ("Wie heißt die Hauptstadt von Frankreich?", "de", "rule.other_language", "large"),
        ("word " * 2000, "en", "rule.long_prompt", "large"),
    ],
)
def test_the_shipped_rules_send_work_where_it_is_done_well(text: str, language: str, code: str, model: str) -> None:
    decision = decide(plain(text, language), RULES, POLICY, ACCEPTED_S)
    assert (decision.reasons[0].code, decision.model) == (code, model)


# By quality


def judged(text: str = "What is the capital of France?", **quality: float) -> Features:
    given_quality = {"weak": 0.6, "strong": 0.9, **quality}
    reading = Reading("1-abc", "banking", 0.9, "question", 0.3, 0.1, 0.0, given_quality, {"words": 2.0})
    return replace(plain(text), reading=reading)


BY_QUALITY = Settings(
    models=[
        ModelSettings(
            name="little", kind="triton", role="small", context_tokens=2048, price=priced("0.05"), resembles="weak"
        ),
        ModelSettings(
            name="large", kind="openai", role="frontier", context_tokens=8192, price=priced("10"), resembles="strong"
        ),
        ModelSettings(
            name="bankers",
            kind="triton",
            context_tokens=2048,
            price=priced("0.1"),
            adapter="bank",
            resembles="strong",
            domains=("banking",),
            answer_s=60,
        ),
        ModelSettings(name="unknown", kind="triton", context_tokens=2048, price=FREE_PRICES),
    ]
)


def policy_with(**quality: Any) -> Policy:
    return policy_of(BY_QUALITY, QualitySection.model_validate(quality))


def test_without_a_floor_the_rules_decide_and_the_options_are_told() -> None:
    decision = decide(judged(), RULES, policy_with(), ACCEPTED_S)
    assert decision.model == "little"
    assert [reason.code for reason in decision.reasons] == ["default"]
    verdicts = {option.model: option.verdict for option in decision.judgement.options}
    assert verdicts == {"little": "chosen", "large": "forced", "bankers": "forced", "unknown": "forced"}


@pytest.mark.parametrize(
    ("floor", "model", "code"),
    [(0.5, "little", CHEAPEST), (0.7, "bankers", CHEAPEST), (0.95, "large", NONE_MEETS)],
)
def test_the_cheapest_that_meets_the_floor_is_chosen(floor: float, model: str, code: str) -> None:
    decision = decide(judged(), RULES, policy_with(min_quality=floor), ACCEPTED_S)
    assert (decision.model, decision.reasons[-1].code) == (model, code)
    assert decision.route == ROUTES.get(model, result_pb2.ROUTE_SMALL)
    assert decision.judgement.min_quality == floor


def test_a_tenants_floor_is_its_own() -> None:
    policy = policy_with(tenants={"default": {"min_quality": 0.7}})
    assert decide(judged(), RULES, policy, ACCEPTED_S).model == "bankers"
    assert decide(replace(judged(), tenant="acme"), RULES, policy, ACCEPTED_S).model == "little"


def test_an_adapter_is_for_its_domains_and_for_what_can_wait_for_it() -> None:
    policy = policy_with(min_quality=0.7)
    assert decide(judged(), RULES, policy, ACCEPTED_S).model == "bankers"
    soon = decide(replace(judged(), tier=request_pb2.TIER_REALTIME), RULES, policy, ACCEPTED_S)
    assert soon.model == "large"
    assert {option.model: option.verdict for option in soon.judgement.options}["bankers"] == "latency"
    reading = judged().reading
    assert reading is not None
    elsewhere = decide(replace(judged(), reading=replace(reading, domain="travel")), RULES, policy, ACCEPTED_S)
    assert elsewhere.model == "large"
    assert {option.model: option.verdict for option in elsewhere.judgement.options}["bankers"] == "domain"


@given(
    features(),
    st.floats(0, 1),
    st.sampled_from(["little", "large", "bankers", "small", "frontier"]),
    st.integers(1, 10_000),
    st.booleans(),
)
def test_what_a_rule_forbids_is_never_chosen(
    request: Features, floor: float, forbidden: str, tokens: int, knows: bool
) -> None:
    policy = policy_with(min_quality=floor)
    rules = rule_files.parse(
        {
            "default": "small",
            "rules": [{"name": "not_it", "when": {"messages": {"min": 1}}, "forbid": forbidden}],
        },
        policy.targets,
        "f",
    )
    reading = judged().reading if knows else None
    request = replace(request, model="auto", reading=reading, tokens=tokens, max_tokens=20)
    try:
        decision = decide(request, rules, policy, ACCEPTED_S)
    except Refused:
        # Too long for what is left.
        return
    assert decision.model != policy.targets[forbidden].name
    assert list(decision.forbidden) == [policy.targets[forbidden].name]


@given(features(), st.lists(st.sampled_from(["little", "large", "bankers"]), min_size=1, unique=True), st.booleans())
def test_where_a_rule_forbids_every_model_the_request_is_refused(
    request: Features, forbidden: list[str], knows: bool
) -> None:
    policy = policy_with(min_quality=0.5)
    rule = {"name": "not_these", "when": {"messages": {"min": 1}}, "forbid": forbidden}
    rules = rule_files.parse({"default": "small", "rules": [rule]}, policy.targets, "f")
    request = replace(request, model="auto", reading=judged().reading if knows else None, tokens=20, max_tokens=20)
    if len(forbidden) < len(policy.models):
        assert decide(request, rules, policy, ACCEPTED_S).model not in forbidden
    else:
        with pytest.raises(Refused, match=r"rule\.not_these: forbids every model") as refused:
            decide(request, rules, policy, ACCEPTED_S)
        assert refused.value.code == Code.MODEL_FORBIDDEN


def test_what_may_not_fit_goes_to_another_that_holds_it_where_the_large_model_is_forbidden() -> None:
    rule = {"name": "not_it", "when": {"messages": {"min": 1}}, "forbid": "large"}
    rules = rule_files.parse({"default": "own-on-triton", "rules": [rule]}, POLICY.targets, "f")
    request = replace(plain("What is it?"), tokens=400, max_tokens=200)
    decision = decide(request, rules, POLICY, ACCEPTED_S)
    holds = {target.name for target in POLICY.models if target.context_tokens >= 600}
    assert decision.model in holds - {"large"}
    assert "context.tokens" in [reason.code for reason in decision.reasons]


def test_a_rule_raises_a_floor_and_never_lowers_it() -> None:
    def model_by(rule_floor: float, tenant_floor: float) -> str:
        policy = policy_with(min_quality=tenant_floor)
        rule = {"name": "it", "when": {"messages": {"min": 1}}, "min_quality": rule_floor}
        rules = rule_files.parse({"default": "small", "rules": [rule]}, policy.targets, "f")
        return decide(judged(), rules, policy, ACCEPTED_S).model

    assert model_by(0.7, 0.5) == model_by(0.5, 0.7) == "bankers"
    assert model_by(0.5, 0.5) == "little"


def test_a_rule_that_names_a_model_is_not_outbid() -> None:
    decision = decide(judged("Prove that there are infinitely many primes"), RULES, policy_with(min_quality=0.5), 0)
    assert (decision.model, decision.reasons[0].code) == ("large", "rule.mathematics")
    assert {option.verdict for option in decision.judgement.options} == {"chosen", "forced"}


def test_with_a_floor_and_nothing_known_the_rules_decide_and_the_result_says_so() -> None:
    for request in (plain("What is the capital of France?"), replace(plain("What is it?"), vector=None, version="")):
        decision = decide(request, RULES, policy_with(min_quality=0.9), ACCEPTED_S)
        assert decision.model == "little"
        assert "heads.unavailable" in [reason.code for reason in decision.reasons]
        assert not decision.HasField("judgement")


def test_what_outcomes_taught_moves_the_choice() -> None:
    learned = Learned("beef", "1-abc", {"little": Calibration((0, 1), (0, 0.5))})
    decision = decide(judged(), RULES, policy_with(min_quality=0.5).with_learned(learned), ACCEPTED_S)
    assert decision.model == "bankers"
    option = next(each for each in decision.judgement.options if each.model == "little")
    assert (option.quality, option.raw_quality) == (pytest.approx(0.3), pytest.approx(0.6))
    assert decision.judgement.heads == "1-abc+beef"
