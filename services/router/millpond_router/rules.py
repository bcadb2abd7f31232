"""The rule engine: the first rule whose conditions all hold chooses. Pure, but for `load`, which reads the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_core.embedding import unpack
from millpond_core.settings import Section
from millpond_router.decide import Choice
from millpond_router.features import Features, words_of
from millpond_router.heads import Reading

SHIPPED = Path(__file__).with_name("rules.yaml")

TIERS = {
    "realtime": request_pb2.TIER_REALTIME,
    "standard": request_pb2.TIER_STANDARD,
    "overnight": request_pb2.TIER_OVERNIGHT,
}

DEFAULT = "default"
"""The reason's code where no rule holds."""


class RulesError(Exception):
    """The rules cannot be used. One line for each problem: the file, the rule, and what is wrong."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def _words(value: object) -> object:
    """One word stands for a list of one. YAML's bare `no` and `1` are not meant as they are read."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each.strip() for each in values):
        raise ValueError("must be a text, or a list of texts; quote what YAML would read as a number or as yes or no")
    return values


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Range(Section):
    """Both bounds belong to it."""

    min: int = Field(default=0, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> Range:
        if not self.model_fields_set:
            raise ValueError("must have min or max")
        if self.max is not None and self.max < self.min:
            raise ValueError("max must not be less than min")
        return self

    def holds(self, number: int) -> bool:
        return self.min <= number and (self.max is None or number <= self.max)


class Share(Section):
    """Both bounds belong to it. From 0 to 1."""

    min: float = Field(default=0, ge=0, le=1)
    max: float = Field(default=1, ge=0, le=1)

    @model_validator(mode="after")
    def _bounded(self) -> Share:
        if not self.model_fields_set:
            raise ValueError("must have min or max")
        if self.max < self.min:
            raise ValueError("max must not be less than min")
        return self

    def holds(self, number: float) -> bool:
        return self.min <= number <= self.max


class Similar(Section):
    """at_least: cosine to the nearest of the examples."""

    examples: Words
    at_least: float = Field(gt=0, le=1)


class When(Section):
    """Conditions; all that are named must hold. features.py says what each looks at."""

    tenant: Words | None = None
    metadata: dict[str, Words] = Field(default={})
    tier: Words | None = None
    characters: Range | None = None
    tokens: Range | None = None
    messages: Range | None = None
    keywords: Words | None = None
    language: Words | None = None
    other_language_than: Words | None = None
    similar: Similar | None = None
    domain: Words | None = None
    task: Words | None = None
    difficulty: Share | None = None
    out_of_scope: Share | None = None

    @model_validator(mode="after")
    def _says_something(self) -> When:
        if not self.model_fields_set:
            raise ValueError("must name at least one condition")
        if empty := [keyword for keyword in self.keywords or () if not words_of(keyword).strip()]:
            raise ValueError(f"keyword {empty[0]!r} has no letter or digit")
        if unknown := [tier for tier in self.tier or () if tier not in TIERS]:
            raise ValueError(f"tier {unknown[0]!r} is none of {', '.join(TIERS)}")
        return self

    @cached_property
    def asked_tiers(self) -> frozenset[request_pb2.Tier]:
        return frozenset(TIERS[tier] for tier in self.tier or ())

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """The keywords, as they stand among a text's words."""
        return tuple(words_of(keyword) for keyword in self.keywords or ())


class Rule(Section):
    """model: "small", "frontier" or a configured name. tier: for requests that name none.

    Without a model, it says what the choice by quality is bound by: a floor, the price's weight, forbidden models.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$", max_length=64)
    when: When
    model: str | None = None
    tier: str | None = None
    min_quality: float | None = Field(default=None, ge=0, le=1)
    price_weight: float | None = Field(default=None, ge=0, le=1)
    forbid: Words | None = None

    @model_validator(mode="after")
    def _says_what_to_do(self) -> Rule:
        if self.tier is not None and self.tier not in TIERS:
            raise ValueError(f"tier {self.tier!r} is none of {', '.join(TIERS)}")
        bounds = (self.min_quality, self.price_weight, self.forbid)
        if self.model is None and all(bound is None for bound in bounds):
            raise ValueError("must name a model, or one of min_quality, price_weight and forbid")
        if self.model is not None and any(bound is not None for bound in bounds):
            raise ValueError("names a model: min_quality, price_weight and forbid are for rules that leave it open")
        return self

    @property
    def code(self) -> str:
        return f"rule.{self.name}"


@dataclass(frozen=True)
class Examples:
    """The rules' example sentences as vectors of one embedder: [examples, dimension] by rule."""

    version: str = ""
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])


@dataclass(frozen=True)
class Rules:
    """Implements `Classifier`. default: the model where no rule holds."""

    rules: tuple[Rule, ...]
    default: str
    examples: Examples = field(default_factory=Examples)

    def choose(self, features: Features) -> Choice:
        for rule in self.rules:
            reason = result_pb2.Reason(code=rule.code)
            if _holds(rule, features, self.examples, reason):
                return Choice(
                    model=rule.model or self.default,
                    tier=TIERS[rule.tier] if rule.tier else None,
                    reason=reason,
                    open=rule.model is None,
                    min_quality=rule.min_quality,
                    price_weight=rule.price_weight,
                    forbidden=frozenset(rule.forbid or ()),
                )
        return Choice(self.default, None, result_pb2.Reason(code=DEFAULT, detail=self.default), open=True)

    @cached_property
    def asks_for_language(self) -> bool:
        return any(rule.when.language or rule.when.other_language_than for rule in self.rules)

    def labels(self) -> dict[str, set[str]]:
        """Of the heads, that any rule looks for."""
        return {
            "domains": {label for rule in self.rules for label in rule.when.domain or ()},
            "tasks": {label for rule in self.rules for label in rule.when.task or ()},
        }

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """All examples of all rules, for `with_examples`."""
        return tuple(text for rule in self.rules if rule.when.similar for text in rule.when.similar.examples)

    def with_examples(self, embeddings: Sequence[envelope_pb2.Embedding]) -> Rules:
        """These rules, with the embeddings of `sentences`, in their order."""
        vectors: dict[str, NDArray[np.float32]] = {}
        left = iter(embeddings)
        for rule in self.rules:
            if rule.when.similar:
                vectors[rule.name] = np.stack([unpack(next(left)) for _ in rule.when.similar.examples])
        return replace(self, examples=Examples(embeddings[0].version, vectors))


def load(path: Path, models: Collection[str]) -> Rules:
    """The rules of the file. models: every name that a rule may choose. Raises RulesError with all that is wrong."""
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except OSError as failure:
        raise RulesError([f"{path}: cannot be read: {failure.strerror}"]) from failure
    except (UnicodeDecodeError, yaml.YAMLError) as failure:
        raise RulesError([f"{path}: is not YAML in UTF-8: {' '.join(str(failure).split())}"]) from failure
    return parse(content, models, str(path))


def parse(content: Any, models: Collection[str], file: str) -> Rules:
    """As `load`, of what YAML made of the file."""
    if not isinstance(content, dict) or content.keys() - {"default", "rules"} or "default" not in content:
        raise RulesError([f"{file}: must be a map with `default`, a model, and `rules`, a list"])
    given = content.get("rules")
    if given is None:
        given = []
    if not isinstance(given, list):
        raise RulesError([f"{file}: rules: must be a list"])
    lines: list[str] = []
    default = content["default"]
    if not isinstance(default, str) or default not in models:
        lines.append(f"{file}: default: {default!r} is none of {', '.join(sorted(models))}")
    rules: list[Rule] = []
    for number, each in enumerate(given, 1):
        name = each.get("name") if isinstance(each, dict) else None
        where = f"{file}: rule {name or f'number {number}'}"
        try:
            rule = Rule.model_validate(each)
        except ValidationError as failure:
            lines.extend(f"{where}: {_what(error)}" for error in failure.errors(include_url=False))
            continue
        if rule.model is not None and rule.model not in models:
            lines.append(f"{where}: model: {rule.model!r} is none of {', '.join(sorted(models))}")
        for name in rule.forbid or ():
            if name not in models:
                lines.append(f"{where}: forbid: {name!r} is none of {', '.join(sorted(models))}")
        if rule.name in (earlier.name for earlier in rules):
            lines.append(f"{where}: name: an earlier rule has it: a reason must name one rule")
        rules.append(rule)
    if lines:
        raise RulesError(lines)
    return Rules(tuple(rules), default)


def _what(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        text = "is nothing that a rule has; see services/router/README.md"
    elif error["type"] == "missing":
        text = "is missing"
    elif error["type"] == "string_pattern_mismatch":
        text = "must be of a-z, 0-9 and _"
    else:
        text = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{path}: {text}" if path else text


def _holds(rule: Rule, features: Features, examples: Examples, reason: result_pb2.Reason) -> bool:
    """Whether all conditions hold; the cheap ones are asked first.

    reason: gets the number and the word that were looked at, where the rule looks at any.
    """
    when = rule.when
    if not _names_hold(when, features, reason) or not _lengths_hold(when, features, reason):
        return False
    if not _reading_holds(when, features.reading, reason):
        return False
    if when.keywords is not None:
        found = next((phrase for phrase in when.phrases if phrase in features.words), None)
        if found is None:
            return False
        reason.detail = found.strip()
    if when.similar is not None:
        if features.vector is None or features.version != examples.version:
            return False
        similarity = float((examples.vectors[rule.name] @ features.vector).max())
        if similarity < when.similar.at_least:
            return False
        reason.value = round(similarity, 4)
    return True


def _names_hold(when: When, features: Features, reason: result_pb2.Reason) -> bool:
    if when.tenant is not None:
        if features.tenant not in when.tenant:
            return False
        reason.detail = features.tenant
    for name, values in when.metadata.items():
        value = features.metadata.get(name)
        if value not in values:
            return False
        reason.detail = value
    if when.tier is not None and features.tier not in when.asked_tiers:
        return False
    if when.language is not None:
        if features.language not in when.language:
            return False
        reason.detail = features.language
    if when.other_language_than is not None:
        if not features.language or features.language in when.other_language_than:
            return False
        reason.detail = features.language
    return True


def _lengths_hold(when: When, features: Features, reason: result_pb2.Reason) -> bool:
    lengths = (
        (when.characters, features.characters),
        (when.tokens, features.tokens),
        (when.messages, features.messages),
    )
    for allowed, number in lengths:
        if allowed is not None:
            if not allowed.holds(number):
                return False
            reason.value = number
    return True


def _reading_holds(when: When, reading: Reading | None, reason: result_pb2.Reason) -> bool:
    """Whether what the heads say fits; never without them, where a condition asks."""
    if when.domain is None and when.task is None and when.difficulty is None and when.out_of_scope is None:
        return True
    if reading is None:
        return False
    for allowed, word in ((when.domain, reading.domain), (when.task, reading.task)):
        if allowed is not None:
            if word not in allowed:
                return False
            reason.detail = word
    for share, number in ((when.difficulty, reading.difficulty), (when.out_of_scope, reading.out_of_scope)):
        if share is not None:
            if not share.holds(number):
                return False
            reason.value = round(number, 4)
    return True
