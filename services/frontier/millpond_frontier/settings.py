"""Frontier's own settings: the section `frontier` of the file, or MILLPOND_FRONTIER__… in the environment."""

from __future__ import annotations

from pydantic import Field

from millpond_core.settings import Port, Seconds, Section, Settings


class FrontierSection(Section):
    """How providers are called."""

    concurrency: int = Field(default=4, gt=0, description="Calls of one model at the same time.")
    call_timeout_s: Seconds = Field(default=300, description="Seconds that a provider has to finish one answer.")
    max_tokens: int = Field(default=512, gt=0, description="Tokens of an answer whose request names no bound.")
    max_attempts: int = Field(default=4, gt=0, description="Calls for one request, before its result is the error.")
    retry_first_s: Seconds = Field(
        default=1, description="Seconds before the second call; twice as long before each further one, give or take."
    )
    retry_last_s: Seconds = Field(default=60, description="Seconds between two calls at most.")
    engine_params: bool = Field(
        default=True,
        description="Whether `top_k`, `min_tokens` and `repetition_penalty`, which OpenAI's own endpoint refuses and "
        "vLLM's and llama.cpp's take, are passed on. Where not, a request that names one is refused.",
    )
    max_request_bytes: int = Field(default=1 << 20, gt=0, description="Bytes of one call of the sync tier.")
    cache_timeout_s: Seconds = Field(default=0.3, description="Seconds that the sync tier waits for the cache.")


class FrontierSettings(Settings):
    http_port: Port = Field(default=19160, description="Where /healthz, /readyz and /metrics listen.")
    grpc_host: str = Field(default="127.0.0.1", description="Where the sync tier listens.")
    grpc_port: Port = Field(default=19170, description="Its port; 0 takes a free one.")
    cache_grpc: str = Field(default="127.0.0.1:19130", description="The cache's gRPC address, `host:port`.")
    frontier: FrontierSection = Field(default=FrontierSection(), description="Frontier's own.")
