"""What an engine's step takes: measured by `./millpond bench batching`, or written down for one that is not here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millpond_cli.errors import CommandError


class EngineProfile(BaseModel):
    """One replica. A step takes step_s, row_step_s more for each row that writes a token, and prompt_token_s for each
    token of a prompt that is read in it, of which there are batched_tokens at most together with the rows.

    rows, urgent_rows: that run at the same time; urgent ones have a batch of their own where there are any.
    overhead_s: of a row, from the batcher to the engine and back. usd_per_hour: of one replica.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "engine"
    step_s: float = Field(gt=0)
    row_step_s: float = Field(ge=0)
    prompt_token_s: float = Field(ge=0)
    rows: int = Field(default=64, gt=0)
    urgent_rows: int = Field(default=0, ge=0)
    batched_tokens: int = Field(default=256, gt=0)
    overhead_s: float = Field(default=0.0, ge=0)
    usd_per_hour: float = Field(default=0.0, ge=0)

    @property
    def all_rows(self) -> int:
        return self.rows + self.urgent_rows

    def seconds(self, rows: int, prompt_tokens: int) -> float:
        """Of one step."""
        return self.step_s + self.row_step_s * rows + self.prompt_token_s * prompt_tokens


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


def measured(
    name: str, runs: Sequence[tuple[int, int, int, float]], rows: int, urgent_rows: int, overhead_s: float = 0.0
) -> EngineProfile:
    """The profile of an engine that ran these: as `fitted` takes them."""
    step_s, row_step_s, prompt_token_s = fitted(runs)
    return EngineProfile(
        name=name,
        step_s=max(step_s, 1e-6),
        row_step_s=row_step_s,
        prompt_token_s=prompt_token_s,
        rows=rows,
        urgent_rows=urgent_rows,
        overhead_s=overhead_s,
    )


def fitted(runs: Sequence[tuple[int, int, int, float]]) -> tuple[float, float, float]:
    """(step_s, row_step_s, prompt_token_s) of runs of one window each: (rows, prompt tokens, tokens each, seconds).

    All prompts of a window together are prompt tokens. Least squares of the relative errors; nothing takes less than
    no time.
    """
    features = np.array([[tokens, rows * tokens, prompts] for rows, prompts, tokens, _ in runs], float)
    seconds = np.array([each[3] for each in runs])
    scaled = features / seconds[:, None]
    used = np.ones(3, bool)
    found = np.zeros(3)
    while used.any():
        found[:] = 0.0
        found[used] = np.linalg.lstsq(scaled[:, used], np.ones(len(runs)), rcond=None)[0]
        if (found >= 0).all():
            break
        used &= found >= 0
    return float(found[0]), float(found[1]), float(found[2])
