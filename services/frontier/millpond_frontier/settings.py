"""Frontier's own settings: the section `frontier` of the file, or MILLPOND_FRONTIER__… in the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millpond_core.settings import Port, Seconds, Section, Settings


class FrontierSection(Section):
    """How providers are called, and what the sync tier takes."""

    concurrency: int = Field(default=4, gt=0, description="Calls of one model at the same time for `ai.frontier`.")
    call_timeout_s: Seconds = Field(
        default=300, description="Seconds that a provider has to finish one answer; the deadline may end it before."
    )
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="What the provider calls the bound on an answer's tokens; OpenAI's reasoning models want "
        "`max_completion_tokens`.",
    )
    repeatable: bool = Field(
        default=True,
        description="Whether a request that names no temperature is sent with 0, so that equal requests have equal "
        "answers. Set to false for models that refuse it, as OpenAI's reasoning models do.",
    )
    engine_params: bool = Field(
        default=True,
        description="Whether `top_k`, `min_tokens` and `repetition_penalty`, which OpenAI's own endpoint refuses and "
        "vLLM's takes, are passed on. Where not, a request that names one is refused.",
    )
    max_attempts: int = Field(
        default=4, gt=0, description="Calls that the provider failed on, before a request's result is the error."
    )
    max_attempts_away: int = Field(
        default=100,
        gt=0,
        description="The same for calls that met a rate limit or nobody: some 45 minutes, with the pauses below.",
    )
    retry_first_s: Seconds = Field(
        default=1, description="Seconds before the second call at most; twice as long before each further one."
    )
    retry_last_s: Seconds = Field(default=60, description="Seconds between two calls at most.")
    sync_calls: int = Field(default=64, gt=0, description="Requests that the sync tier works on at the same time.")
    max_request_bytes: int = Field(
        default=800_000,
        gt=0,
        description="Bytes of one call of the sync tier. The request and its answer must fit into one record.",
    )
    cache_timeout_s: Seconds = Field(
        default=0.3,
        description="Seconds that the cache is waited for: by the sync tier, and before a request that waited is sent.",
    )
    publish_timeout_s: Seconds = Field(
        default=2, description="Seconds that the sync tier's caller waits for Kafka to take the answer."
    )


class FrontierSettings(Settings):
    http_port: Port = Field(default=19160, description="Where /healthz, /readyz and /metrics listen.")
    grpc_host: str = Field(default="127.0.0.1", description="Where the sync tier listens.")
    grpc_port: Port = Field(default=19170, description="Its port; 0 takes a free one.")
    frontier: FrontierSection = Field(default=FrontierSection(), description="Frontier's own.")
