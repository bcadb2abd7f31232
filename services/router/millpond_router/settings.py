"""The router's own settings: the section `router` of the file, or MILLPOND_ROUTER__… in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from millpond_core.embedder import TIMEOUT_S
from millpond_core.settings import Port, Seconds, Section, Settings
from millpond_router.options import Bounds

Probability = Annotated[float, Field(ge=0, le=1)]


class TenantQuality(Section):
    """One tenant's own; what it does not say is as for all others."""

    min_quality: Probability | None = None
    price_weight: Probability | None = None


class QualitySection(Section):
    """What the choice of a model is bound by, where the rules leave it open."""

    min_quality: Probability = Field(
        default=0,
        description="The least probability of a good answer that a model is chosen with. 0: the rules decide alone.",
    )
    price_weight: Probability = Field(
        default=1, description="1 takes the cheapest model that meets the floor, 0 the best one."
    )
    tenants: dict[str, TenantQuality] = Field(
        default={}, description="The same by tenant: `{acme: {min_quality: 0.8}}`."
    )

    def bounds(self) -> dict[str, Bounds]:
        """By tenant; "" for all others."""

        def of(own: TenantQuality) -> Bounds:
            floor = self.min_quality if own.min_quality is None else own.min_quality
            weight = self.price_weight if own.price_weight is None else own.price_weight
            return Bounds(floor, weight)

        return {
            "": Bounds(self.min_quality, self.price_weight),
            **{name: of(own) for name, own in self.tenants.items()},
        }


class RouterSection(Section):
    """Bounds on what is in the router's hands, and where its rules are."""

    rules: Path | None = Field(default=None, description="The file with the rules. Default: those that are shipped.")
    max_request_bytes: int = Field(
        default=1_000_000,
        gt=0,
        description="The largest value of a record of ai.requests that is served. With its answer it "
        "must fit into a record, of which the topics take 4 MiB.",
    )
    batch: int = Field(default=64, gt=0, description="Requests that are taken and sent on together.")
    batches_in_flight: int = Field(default=8, gt=0, description="Batches that are worked on at the same time.")
    embed: bool = Field(
        default=True,
        description="Whether requests get the vectors that the cache's semantic matches and rules with `similar` need; "
        "without, the embedder is never asked.",
    )
    embed_timeout_s: Seconds = Field(
        default=TIMEOUT_S,
        description="Seconds that a `realtime` request waits for its turn with the embedder, and then for the answer.",
    )
    embed_wait_s: Seconds = Field(
        default=5,
        description="Seconds that another request waits for its turn. An embedder that is away is not waited for.",
    )
    quality: QualitySection = Field(default=QualitySection(), description="What a model is chosen by.")
    heads: Path | None = Field(default=None, description="The folder with the heads. Default: those that are shipped.")
    encoder: str | None = Field(
        default=None,
        description="The Triton model whose vectors the heads look at, as training/router/export.py makes it, at the "
        "price of a second call. Default: the embedder.",
    )
    shadow_heads: Path | None = Field(
        default=None, description="A folder with candidates, which decide beside the heads in use and move nothing."
    )
    calibration: Path | None = Field(
        default=None, description="The file of what outcomes taught, as `./millpond recalibrate` writes it."
    )
    learn: bool = Field(
        default=False, description="Learn from `ai.feedback` while running, in place of the file `calibration`."
    )


class RouterSettings(Settings):
    http_port: Port = Field(default=19100, description="Where /healthz, /readyz and /metrics listen.")
    router: RouterSection = Field(default=RouterSection(), description="The router's own.")
