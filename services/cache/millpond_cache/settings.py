"""The cache's own settings: the section `cache:` of the file, and where it listens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from millpond_core.settings import Port, Seconds, Section, Settings

Budget = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Ttl = Annotated[int, Field(gt=0)]


class CacheSettings(Section):
    error_budget: Budget = Field(
        default=0.01,
        description="Share of the hits by meaning that may be wrong: the similarity that they need follows from it.",
    )
    error_budget_by_tenant: dict[str, Budget] = Field(
        default={}, description="The same for single tenants; the smaller of what applies counts."
    )
    error_budget_by_model: dict[str, Budget] = Field(
        default={}, description="The same for the models that would answer, and so for a route."
    )
    sample_share: Share = Field(
        default=0.01,
        description="Share of the hits by meaning that the model is asked for too, in the overnight tier: were they "
        "right?",
    )
    judge_sensitivity: Share = Field(
        default=0.56, description="Share of wrong hits among the sampled that are called so; as measured for the model."
    )
    judge_specificity: Share = Field(
        default=0.45, description="Share of right hits among the sampled that are called so; as measured for the model."
    )
    candidates: int = Field(default=4, gt=0, le=64, description="Nearest texts that are looked at for one request.")
    ttl_s: int = Field(
        default=24 * 3600, gt=0, description="Seconds that an answer may be given again, where its request says none."
    )
    ttl_s_by_tenant: dict[str, Ttl] = Field(
        default={}, description="The same for single tenants; the smaller of what applies counts."
    )
    ttl_s_by_model: dict[str, Ttl] = Field(
        default={}, description="The same for the models that answered, and so for a route."
    )
    max_temperature: float = Field(
        default=0.7,
        ge=0,
        description="A request that asks for a higher temperature wants a new answer each time: it is not looked up, "
        "and its answer not kept.",
    )
    lookup_timeout_s: Seconds = Field(
        default=0.25, description="Seconds after which a look-up is a miss, in the tier `realtime` and the sync tier."
    )
    patient_timeout_s: Seconds = Field(
        default=1, description="The same in the tiers that can wait, where a hit is worth more than a second."
    )
    max_entries: int = Field(
        default=1_000_000,
        gt=0,
        description="Answers that are kept, all tenants together: over it, those that save least are forgotten.",
    )
    recent_mb: float = Field(
        default=32, ge=0, description="Memory for the answers of the last minute, which Milvus may not show yet."
    )
    dimension: int = Field(default=384, gt=0, description="Numbers in a vector: the embedder's.")
    milvus_token: SecretStr | None = Field(default=None, description="Milvus's token, or `user:password`.")


class CacheServiceSettings(Settings):
    http_port: Port = 19120
    grpc_host: str = Field(default="127.0.0.1", description="Where the sync tier's look-ups are served.")
    grpc_port: Port = Field(default=19130, description="Their port; 0 takes a free one.")
    cache: CacheSettings = CacheSettings()
