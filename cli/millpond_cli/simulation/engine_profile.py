"""What an engine's step takes: measured by `./millpond bench batching`, or written down for one that is not here."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millpond_cli.errors import CommandError

MOST_S = 3600.0
"""Seconds of one step, or of one row's or token's part in it: an hour is no engine's."""


class EngineProfile(BaseModel):
    """One replica. A step takes step_s, row_step_s more for each row that writes a token, and prompt_token_s for each
    token of a prompt that is read in it, of which there are batched_tokens at most together with the rows.

    rows, urgent_rows: that run at the same time; urgent ones have a batch of their own where there are any.
    overhead_s: of a row, from the batcher to the engine and back. usd_per_hour: of one replica.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = "engine"
    step_s: float = Field(gt=0, le=MOST_S)
    row_step_s: float = Field(ge=0, le=MOST_S)
    prompt_token_s: float = Field(ge=0, le=MOST_S)
    rows: int = Field(default=128, gt=0)
    urgent_rows: int = Field(default=0, ge=0)
    batched_tokens: int = Field(default=256, gt=0)
    overhead_s: float = Field(default=0.0, ge=0, le=MOST_S)
    usd_per_hour: float = Field(default=0.0, ge=0)

    @property
    def all_rows(self) -> int:
        return self.rows + self.urgent_rows

    def seconds(self, rows: int, prompt_tokens: int) -> float:
        """Of one step."""
        return self.step_s + self.row_step_s * rows + self.prompt_token_s * prompt_tokens

    def slowed(self, times: float) -> EngineProfile:
        """With steps that take so many times as long: something else runs on its machine."""
        steps = {name: getattr(self, name) * times for name in ("step_s", "row_step_s", "prompt_token_s")}
        return self.model_copy(update=steps)


def read(file: Path) -> EngineProfile:
    """Raises CommandError."""
    try:
        return EngineProfile.model_validate_json(file.read_bytes())
    except OSError as failure:
        raise CommandError(f"--engine-profile {file}: {failure.strerror}") from failure
    except ValidationError as failure:
        error = failure.errors()[0]
        where = ".".join(map(str, error["loc"])) or "it"
        raise CommandError(f"--engine-profile {file}: {where}: {error['msg']}") from failure
