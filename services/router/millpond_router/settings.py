"""The router's own settings: the section `router` of the file, or MILLPOND_ROUTER__… in the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from millpond_core.embedder import TIMEOUT_S
from millpond_core.settings import Port, Seconds, Section, Settings


class RouterSection(Section):
    """Bounds on what is in the router's hands, and where its rules are."""

    rules: Path | None = Field(default=None, description="The file with the rules. Default: those that are shipped.")
    max_request_bytes: int = Field(
        default=1_000_000,
        gt=0,
        description="The largest value of a record of ai.requests that is served. The envelope must fit into what the "
        "topics behind the router take, 1,048,588 bytes by default.",
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


class RouterSettings(Settings):
    http_port: Port = Field(default=19100, description="Where /healthz, /readyz and /metrics listen.")
    router: RouterSection = Field(default=RouterSection(), description="The router's own.")
