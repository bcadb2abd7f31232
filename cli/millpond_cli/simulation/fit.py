"""An engine's profile, found from windows that it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from millpond_cli.simulation.engine import Running, SimulatedEngine, Work
from millpond_cli.simulation.engine_profile import EngineProfile

LEAST_STEP_S = 1e-6
"""No step takes less."""


@dataclass(frozen=True)
class Run:
    """windows: one after the other, each with the tokens of its rows' prompts. tokens: of each answer. seconds: of all.

    The rows of a window come together, and it ends with its last row.
    """

    windows: Sequence[Sequence[int]]
    tokens: int
    seconds: float


def fitted(name: str, runs: Sequence[Run], rows: int, urgent_rows: int) -> EngineProfile:
    """The profile by which the simulated engine takes as long for these runs as they took.

    rows, urgent_rows: that run at the same time.
    How many steps a window takes, and what is read and written in them, does not depend on what they cost, so the
    simulated engine is asked for it; the costs are least squares of the relative errors. Nothing takes less than no
    time.
    """
    engine = EngineProfile(step_s=1, row_step_s=0, prompt_token_s=0, rows=rows)
    work = [work_of(run, engine) for run in runs]
    features = np.array([[each.steps, each.row_steps, each.prompt_tokens] for each in work], float)
    scaled = features / np.array([run.seconds for run in runs])[:, None]
    used = np.ones(3, bool)
    found = np.zeros(3)
    while used.any():
        found[:] = 0.0
        found[used] = np.linalg.lstsq(scaled[:, used], np.ones(len(runs)), rcond=None)[0]
        if (found >= 0).all():
            break
        used &= found >= 0
    step_s, row_step_s, prompt_token_s = map(float, found)
    return EngineProfile(
        name=name,
        step_s=max(step_s, LEAST_STEP_S),
        row_step_s=row_step_s,
        prompt_token_s=prompt_token_s,
        rows=rows,
        urgent_rows=urgent_rows,
    )


def work_of(run: Run, profile: EngineProfile) -> Work:
    """What an engine of so many rows and batched tokens does in these windows."""
    environment = simpy.Environment()
    engine = SimulatedEngine(environment, profile)
    for prompts in run.windows:
        for prompt in prompts:
            engine.take(Running(prompt, run.tokens, urgent=False, done=lambda _: None))
        environment.run()
    return engine.work
