"""The batcher's own settings: the section `batcher` of the file, or MILLPOND_BATCHER__… in the environment."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from millpond_batcher.chat_prompt import ChatPrompt, WrongTemplate
from millpond_core.settings import Port, Seconds, Section, Settings


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
        default=4, ge=0, description="Places in the engine, of a model's `max_rows`, that only `realtime` may take."
    )
    refill_rows: int = Field(
        default=16,
        gt=0,
        description="Places that must be free before the other tiers' rows go into an engine that runs: fewer and "
        "larger batches. A near deadline does not wait for them.",
    )
    row_tokens_per_s: float = Field(
        default=10,
        gt=0,
        description="Tokens per second that one row of a full engine gets: what run times are told by.",
    )
    prompt_tokens_per_s: float = Field(
        default=200, gt=0, description="Tokens per second at which a full engine reads one row's prompt."
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
    reload_models: bool = Field(
        default=True,
        description="Whether a model whose process died in Triton, or that is not loaded there, is loaded again: once "
        "a minute at most. Needs Triton's explicit model control. Set to false where a person unloads models.",
    )


class BatcherSettings(Settings):
    http_port: Port = Field(default=19140, description="Where /healthz, /readyz and /metrics listen.")
    batcher: BatcherSection = Field(default=BatcherSection(), description="The batcher's own.")

    @model_validator(mode="after")
    def _templates_compile(self) -> Self:
        for model in self.models:
            if model.kind == "triton":
                try:
                    ChatPrompt(model.chat_template)
                except WrongTemplate as failure:
                    raise ValueError(f"models: chat_template of {model.name}: {failure}") from failure
        return self
