"""The batcher's own settings: the section `batcher` of the file, or MILLPOND_BATCHER__… in the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import time
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field, field_validator, model_validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.chat_prompt import ChatPrompt, WrongTemplate
from millpond_batcher.cost_model import Cost
from millpond_batcher.plan import Hours, Policy, Tenant, Window
from millpond_batcher.quality import Checks
from millpond_core.settings import ModelSettings, Port, Seconds, Section, Settings


class TenantSection(Section):
    """One tenant's share."""

    weight: float = Field(default=1, gt=0, le=1000)
    realtime_rows: int | None = Field(default=None, gt=0)
    standard_rows: int | None = Field(default=None, gt=0)
    overnight_rows: int | None = Field(default=None, gt=0)


class ChecksSection(Section):
    """One set of checks; quality.py says what each looks at."""

    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    min_characters: int = Field(default=0, ge=0)
    max_characters: int | None = Field(default=None, gt=0)
    language: str | None = Field(default=None, pattern="^[a-z]{2}$")
    refusal: bool = False
    repetition: bool = False
    min_mean_logprob: float | None = Field(default=None, le=0)
    retry: bool = False

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as failure:
            raise ValueError(f"is no pattern: {failure}") from failure
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            Draft202012Validator.check_schema(value or {})
        except SchemaError as failure:
            raise ValueError(f"is no JSON Schema: {failure.message}") from failure
        for reference in _references(value):
            if not _leads_somewhere(reference, value):
                raise ValueError(f"is no JSON Schema that can be used: $ref {reference!r} leads nowhere in it")
        return value

    def checks(self) -> Checks:
        return Checks(**self.model_dump())


class BatcherSection(Section):
    """When batches are sent, and what is done when the engine fails."""

    realtime_rows: int = Field(
        default=16,
        gt=0,
        description="Waiting `realtime` requests are sent as soon as they are so many; never more together.",
    )
    realtime_wait_s: float = Field(
        default=0,
        ge=0,
        description="Waiting `realtime` requests are sent as soon as one has waited for so long, in seconds.",
    )
    standard_rows: int = Field(
        default=64,
        gt=0,
        description="Waiting `standard` requests are sent as soon as they are so many; never more together.",
    )
    standard_wait_s: float = Field(
        default=1,
        ge=0,
        description="Waiting `standard` requests are sent as soon as one has waited for so long, in seconds.",
    )
    overnight_rows: int = Field(
        default=64,
        gt=0,
        description="Waiting `overnight` requests are sent as soon as they are so many; never more together.",
    )
    overnight_wait_s: float = Field(
        default=10,
        ge=0,
        description="Waiting `overnight` requests are sent as soon as one has waited for so long, in seconds.",
    )
    reserved_rows: int = Field(
        default=16, ge=0, description="Places in the engine, of a model's `max_rows`, that only `realtime` may take."
    )
    refill_rows: int = Field(
        default=16,
        gt=0,
        description="Places that must be free before the other tiers' rows go into an engine that runs: fewer and "
        "larger batches. A near deadline does not wait for them.",
    )
    batch_tokens: int = Field(
        default=65_536, gt=0, description="Tokens of one batch at most, prompts and longest answers together."
    )
    off_peak: list[str] = Field(
        default=[],
        description="Hours in which `overnight` requests go after `standard` ones whatever runs, `22:00-06:00`. "
        "Outside of them they go while the other tiers take less than `idle_share` of the engine, or when their "
        "deadlines near.",
    )
    time_zone: str = Field(default="UTC", description="Whose hours `off_peak` are, `Europe/Berlin`.")
    idle_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the engine's rows below which it counts as idle."
    )
    cache_timeout_s: Seconds = Field(
        default=0.1,
        description="Seconds that the cache has to say whether an equal request was answered while one waited; without "
        "its word the model is asked.",
    )
    tenants: dict[str, TenantSection] = Field(
        default={},
        description="By tenant: `weight`, its share beside the others' 1; `realtime_rows`, `standard_rows` and "
        "`overnight_rows`, how many of its requests may be in the engine at the same time.",
    )
    turn_tokens: int = Field(
        default=2048, gt=0, description="Tokens that a tenant of weight 1 is served before it is the next one's turn."
    )
    queue_target_s: Seconds = Field(
        default=10,
        description="Seconds until a row's first token beyond which the engine is given fewer rows at a time, where it "
        "tells them.",
    )
    row_tokens_per_s: float = Field(
        default=10,
        gt=0,
        description="Tokens per second that one row of a full engine gets: what run times are told by until it is "
        "seen.",
    )
    prompt_tokens_per_s: float = Field(
        default=200,
        gt=0,
        description="Tokens per second at which a full engine reads one row's prompt, until it is seen.",
    )
    margin_s: float = Field(
        default=10, ge=0, description="Seconds that a row is to be done before its deadline, if it ran as told."
    )
    row_timeout_s: Seconds = Field(
        default=300, description="Seconds that the engine has to answer one row, before it is asked again."
    )
    max_attempts: int = Field(
        default=5, gt=0, description="Calls of the engine for one request, before the result is the error."
    )
    retry_first_s: Seconds = Field(
        default=0.5, description="Seconds before the second call; twice as long before each further one, give or take."
    )
    retry_last_s: Seconds = Field(default=30, description="Seconds between two calls at most.")
    checks: dict[str, ChecksSection] = Field(
        default={},
        description="Sets of checks by name, see below. A request names one in `metadata.checks`.",
    )
    default_checks: str | None = Field(
        default=None, description="The set for requests that name none; nothing is checked without one."
    )
    escalate: bool = Field(
        default=True,
        description="Whether an answer that fails its checks goes on to the large model; else it is an error.",
    )
    escalate_s: float = Field(
        default=5, ge=0, description="Seconds before its deadline after which nothing goes to the large model any more."
    )
    canary_rows: int = Field(
        default=20, gt=0, description="Answers of a `metadata.batch` that are checked before the rest of it is sent."
    )
    canary_failed: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of them that may fail their checks; with more, the rest is held until it is resumed or "
        "cancelled.",
    )
    reload_models: bool = Field(
        default=True,
        description="Whether a model whose process died in Triton, or that is not loaded there, is loaded again: once "
        "a minute at most. Needs Triton's explicit model control. Set to false where a person unloads models.",
    )


class BatcherSettings(Settings):
    http_port: Port = Field(default=19140, description="Where /healthz, /readyz and /metrics listen.")
    batcher: BatcherSection = Field(default=BatcherSection(), description="The batcher's own.")

    @field_validator("batcher")
    @classmethod
    def _hours_are_hours(cls, batcher: BatcherSection) -> BatcherSection:
        for text in batcher.off_peak:
            hours_of(text)
        try:
            ZoneInfo(batcher.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as failure:
            raise ValueError(f"time_zone: {batcher.time_zone} is none, as Europe/Berlin is") from failure
        return batcher

    @field_validator("batcher")
    @classmethod
    def _default_checks_are_there(cls, batcher: BatcherSection) -> BatcherSection:
        if batcher.default_checks is not None and batcher.default_checks not in batcher.checks:
            raise ValueError(f"default_checks: {batcher.default_checks!r} is none of checks")
        return batcher

    @model_validator(mode="after")
    def _every_tier_has_places(self) -> Self:
        reserved = self.batcher.reserved_rows
        for model in self.models:
            if model.kind == "triton" and model.max_rows <= reserved:
                raise ValueError(
                    f"batcher.reserved_rows: {reserved} of the {model.max_rows} rows of {model.name} (max_rows) are "
                    "for realtime alone, and none is left for the other tiers: lower it, or raise max_rows"
                )
        return self

    @model_validator(mode="after")
    def _templates_compile(self) -> Self:
        for model in self.models:
            if model.kind == "triton":
                try:
                    ChatPrompt(model.chat_template)
                except WrongTemplate as failure:
                    raise ValueError(f"models: chat_template of {model.name}: {failure}") from failure
        return self


FIXED_SHARE = 0.25
"""Of a token's time in a full engine, what it takes in an empty one as well. Measured with SmolLM2-135M on two cores: a
step of 1 row takes 10 ms and one of 64 takes 80 ms. Only what is believed before rows have run."""


def policy_of(settings: Settings, section: BatcherSection, model: ModelSettings) -> Policy:
    windows = {
        TIER_REALTIME: Window(section.realtime_rows, section.realtime_wait_s, section.batch_tokens),
        TIER_STANDARD: Window(section.standard_rows, section.standard_wait_s, section.batch_tokens),
        TIER_OVERNIGHT: Window(section.overnight_rows, section.overnight_wait_s, section.batch_tokens),
    }
    return Policy(
        windows,
        {tier: settings.tiers.seconds(tier) for tier in windows},
        margin_s=section.margin_s,
        reserved_rows=section.reserved_rows,
        refill_rows=section.refill_rows,
        pads=model.pads,
        off_peak=[hours_of(text) for text in section.off_peak],
        zone=ZoneInfo(section.time_zone),
        idle_share=section.idle_share,
        tenants={name: _tenant(each) for name, each in section.tenants.items()},
        quantum=section.turn_tokens,
    )


def prior_of(section: BatcherSection, model: ModelSettings) -> Cost:
    """What to believe of the model before rows have run."""
    token_s = 1 / section.row_tokens_per_s
    row_token_s = token_s * (1 - FIXED_SHARE) / model.max_rows
    return Cost(token_s * FIXED_SHARE, row_token_s, 1 / section.prompt_tokens_per_s)


def hours_of(text: str) -> Hours:
    """Out of "22:00-06:00". Raises ValueError."""
    begin, _, end = text.partition("-")
    try:
        hours = Hours(time.fromisoformat(begin.strip()), time.fromisoformat(end.strip()))
    except ValueError as failure:
        raise ValueError(f"off_peak: {text!r} must read as 22:00-06:00 does") from failure
    if hours.begin.tzinfo or hours.end.tzinfo:
        raise ValueError(f"off_peak: {text!r} must read as 22:00-06:00 does: time_zone says whose hours they are")
    return hours


def _references(schema: Any) -> Iterator[str]:
    """Every $ref in it."""
    match schema:
        case dict():
            if isinstance(reference := schema.get("$ref"), str):
                yield reference
            for part in schema.values():
                yield from _references(part)
        case list():
            for part in schema:
                yield from _references(part)
        case _:
            pass


def _leads_somewhere(reference: str, schema: Any) -> bool:
    """Whether the $ref can be followed without a network, from the schema's own root."""
    try:
        Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver().lookup(reference)
    except Unresolvable:
        return False
    return True


def _tenant(section: TenantSection) -> Tenant:
    rows = {
        TIER_REALTIME: section.realtime_rows,
        TIER_STANDARD: section.standard_rows,
        TIER_OVERNIGHT: section.overnight_rows,
    }
    return Tenant(section.weight, {tier: most for tier, most in rows.items() if most is not None})
