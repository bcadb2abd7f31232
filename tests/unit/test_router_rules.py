"""Rules: what each condition looks at, which rule is the first that holds, and what is said of a file that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import request_pb2
from millpond_core.embedding import pack
from millpond_router.features import Features, features_of, words_of
from millpond_router.heads import Reading
from millpond_router.rules import SHIPPED, Rules, RulesError, load, parse

MODELS = frozenset({"small", "frontier", "little"})


def vector(*numbers: float) -> Any:
    whole = np.array(numbers, dtype=np.float32)
    return whole / np.linalg.norm(whole)


REQUEST = features_of(
    request_pb2.Request(
        tenant="acme",
        metadata={"team": "search"},
        messages=[
            request_pb2.Message(role="system", content="Be brief."),
            request_pb2.Message(role="user", content="Fix this  C++ code,\nplease: naïve  code"),
        ],
    ),
    request_pb2.TIER_REALTIME,
    "en",
    pack(vector(1, 0, 0), "v1", 9),
)


def rules_of(when: Any, **more: Any) -> Rules:
    return parse(
        {"default": "small", "rules": [{"name": "it", "when": when, "model": "frontier", **more}]}, MODELS, "f"
    )


def holds(when: Any, request: Features = REQUEST) -> bool:
    return rules_of(when).choose(request).model == "frontier"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"tenant": "acme"}, True),
        ({"tenant": ["other", "acme"]}, True),
        ({"tenant": "other"}, False),
        ({"metadata": {"team": "search"}}, True),
        ({"metadata": {"team": ["ads", "search"]}}, True),
        ({"metadata": {"team": "search", "job": "nightly"}}, False),
        ({"tier": "realtime"}, True),
        ({"tier": ["standard", "overnight"]}, False),
        ({"characters": {"min": 48, "max": 48}}, True),
        ({"characters": {"max": 47}}, False),
        ({"tokens": {"min": 20}}, True),
        ({"tokens": {"min": 200}}, False),
        ({"messages": {"min": 2}}, True),
        ({"messages": {"min": 3}}, False),
        ({"keywords": "c++ code please"}, True),
        ({"keywords": ["NAÏVE"]}, True),
        ({"keywords": ["cod", "c", "ode"]}, False),
        ({"language": "en"}, True),
        ({"language": ["de", "fr"]}, False),
        ({"other_language_than": "en"}, False),
        ({"other_language_than": "de"}, True),
        ({"tenant": "acme", "tier": "realtime", "keywords": "code", "messages": {"max": 2}}, True),
        ({"tenant": "acme", "tier": "realtime", "keywords": "code", "messages": {"max": 1}}, False),
    ],
)
def test_all_conditions_of_a_rule_must_hold(when: Any, expected: bool) -> None:
    assert holds(when) == expected


def test_an_unclear_language_is_none() -> None:
    unclear = replace(REQUEST, language="")
    assert not holds({"language": "en"}, unclear)
    assert not holds({"other_language_than": "en"}, unclear)


def test_the_first_rule_that_holds_decides_and_says_what_it_saw() -> None:
    rules = parse(
        {
            "default": "small",
            "rules": [
                {"name": "not_this", "when": {"tenant": "other"}, "model": "small"},
                {"name": "this", "when": {"keywords": "code", "messages": {"min": 1}}, "model": "little"},
                {"name": "too_late", "when": {"tenant": "acme"}, "model": "frontier"},
            ],
        },
        MODELS,
        "f",
    )
    choice = rules.choose(REQUEST)
    assert (choice.model, choice.tier) == ("little", None)
    assert (choice.reason.code, choice.reason.value, choice.reason.detail) == ("rule.this", 2, "code")


READING = Reading("1-abc", "banking", 0.9, "code", 0.4, 0.1, 0.0, {}, {})


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"domain": ["banking", "travel"]}, True),
        ({"domain": "travel"}, False),
        ({"task": "code"}, True),
        ({"task": "question"}, False),
        ({"difficulty": {"min": 0.4, "max": 0.4}}, True),
        ({"difficulty": {"min": 0.41}}, False),
        ({"out_of_scope": {"max": 0.2}}, True),
        ({"domain": "banking", "task": "question"}, False),
    ],
)
def test_what_the_heads_say_is_a_condition_and_holds_never_without_them(when: Any, expected: bool) -> None:
    assert holds(when, replace(REQUEST, reading=READING)) == expected
    assert not holds(when, REQUEST)


def test_a_rule_may_leave_the_model_open_and_bound_the_choice() -> None:
    rule = {"name": "it", "when": {"tenant": "acme"}, "min_quality": 0.7, "forbid": "little", "tier": "overnight"}
    choice = parse({"default": "small", "rules": [rule]}, MODELS, "f").choose(REQUEST)
    assert (choice.model, choice.open, choice.min_quality, choice.price_weight) == ("small", True, 0.7, None)
    assert choice.forbidden == {"little"}
    assert choice.tier == request_pb2.TIER_OVERNIGHT


def test_a_rule_may_choose_the_tier() -> None:
    assert rules_of({"tenant": "acme"}, tier="overnight").choose(REQUEST).tier == request_pb2.TIER_OVERNIGHT


def test_without_a_rule_that_holds_it_is_the_default() -> None:
    choice = rules_of({"tenant": "other"}).choose(REQUEST)
    assert (choice.model, choice.reason.code, choice.reason.detail) == ("small", "default", "small")


def test_similarity_is_to_the_nearest_example_of_the_same_embedder() -> None:
    rules = rules_of({"similar": {"examples": ["far away", "close by"], "at_least": 0.9}})
    assert rules.sentences == ("far away", "close by")
    assert rules.choose(REQUEST).model == "small", "no vectors of the examples yet"
    close = [pack(vector(0, 1, 0), "v1", 2), pack(vector(1, 0.2, 0), "v1", 2)]
    choice = rules.with_examples(close).choose(REQUEST)
    assert choice.model == "frontier"
    assert choice.reason.value == pytest.approx(0.98, abs=0.01)
    assert rules.with_examples(close).choose(replace(REQUEST, version="v2")).model == "small"
    assert rules.with_examples(close).choose(replace(REQUEST, vector=None, version="")).model == "small"
    far = [pack(vector(0, 1, 0), "v1", 2), pack(vector(1, 1, 0), "v1", 2)]
    assert rules.with_examples(far).choose(REQUEST).model == "small"


@given(st.text())
def test_words_are_whole_and_in_lower_case(text: str) -> None:
    words = words_of(text)
    assert words.startswith(" ")
    assert words.endswith(" ")
    assert words_of(words) == words
    assert all(f" {word} " in words for word in words.split())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([], "f: must be a map with `default`, a model, and `rules`, a list"),
        ({"rules": []}, "f: must be a map with `default`, a model, and `rules`, a list"),
        ({"default": "small", "rule": []}, "f: must be a map with `default`, a model, and `rules`, a list"),
        ({"default": "gpt"}, "f: default: 'gpt' is none of frontier, little, small"),
        ({"default": "small", "rules": {}}, "f: rules: must be a list"),
        ({"default": "small", "rules": ["a"]}, "f: rule number 1: must be"),
        ({"default": "small", "rules": [{"name": "a"}]}, "f: rule a: when: is missing"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(content: Any, line: str) -> None:
    with pytest.raises(RulesError) as raised:
        parse(content, MODELS, "f")
    assert raised.value.lines[0].startswith(line)


@pytest.mark.parametrize(
    ("when", "more", "line"),
    [
        ({}, {}, "f: rule it: when: must name at least one condition"),
        ({"tenants": "a"}, {}, "f: rule it: when.tenants: is nothing that a rule has"),
        ({"tier": "fast"}, {}, "f: rule it: when: tier 'fast' is none of realtime, standard, overnight"),
        ({"language": False}, {}, "f: rule it: when.language: must be a text, or a list of texts; quote what YAML"),
        ({"keywords": []}, {}, "f: rule it: when.keywords: must be a text"),
        ({"keywords": "?!"}, {}, "f: rule it: when: keyword '?!' has no letter or digit"),
        ({"tokens": {}}, {}, "f: rule it: when.tokens: must have min or max"),
        ({"tokens": {"min": 9, "max": 3}}, {}, "f: rule it: when.tokens: max must not be less than min"),
        ({"similar": {"examples": "a", "at_least": 2}}, {}, "f: rule it: when.similar.at_least: must be less than"),
        ({"tenant": "a"}, {"model": "gpt"}, "f: rule it: model: 'gpt' is none of frontier, little, small"),
        ({"tenant": "a"}, {"tier": "fast"}, "f: rule it: tier 'fast' is none of"),
        ({"tenant": "a"}, {"model": None}, "f: rule it: must name a model, or one of min_quality, price_weight and"),
        ({"tenant": "a"}, {"min_quality": 0.5}, "f: rule it: names a model: min_quality, price_weight and forbid are"),
        ({"tenant": "a"}, {"model": None, "forbid": ["gpt"]}, "f: rule it: forbid: 'gpt' is none of"),
        ({"tenant": "a"}, {"model": None, "min_quality": 2}, "f: rule it: min_quality: must be less than"),
        ({"difficulty": {"min": 0.5, "max": 0.4}}, {}, "f: rule it: when.difficulty: max must not be less than min"),
        ({"tenant": "a"}, {"name": "Not this"}, "f: rule Not this: name: must be of a-z, 0-9 and _"),
    ],
)
def test_a_wrong_rule_is_named_with_what_is_wrong(when: Any, more: dict[str, Any], line: str) -> None:
    with pytest.raises(RulesError) as raised:
        rules_of(when, **more)
    assert raised.value.lines[0].startswith(line)


def test_all_that_is_wrong_is_said_at_once() -> None:
    rule = {"name": "twice", "when": {"tenant": "a"}, "model": "small"}
    with pytest.raises(RulesError) as raised:
        parse({"default": "no", "rules": [rule, rule, {"name": "third"}]}, MODELS, "f")
    about = [line.split(": ")[1] for line in raised.value.lines]
    assert about == ["default", "rule twice", "rule third"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    with pytest.raises(RulesError, match=r"rules\.yaml: cannot be read"):
        load(file, MODELS)
    file.write_text("a: [")
    with pytest.raises(RulesError, match=r"rules\.yaml: is not YAML"):
        load(file, MODELS)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RulesError, match=r"rules\.yaml: is not YAML"):
        load(file, MODELS)


def test_the_shipped_rules_name_only_what_every_deployment_has() -> None:
    load(SHIPPED, ("small", "frontier"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_whatever_yaml_holds_is_rules_or_an_error_that_says_why(content: Any) -> None:
    for whole in (
        content,
        {"default": content},
        {"default": "small", "rules": content},
        {"default": "small", "rules": [content]},
    ):
        try:
            parse(whole, MODELS, "f")
        except RulesError as failure:
            lines = failure.lines
        else:
            continue
        assert lines
        assert all(line.startswith("f: ") for line in lines)
