"""The served embedder and verifier without a server: models/offline.py, run by the models' environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millpond_cli.errors import CommandError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.pieces import MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report
from millpond_cli.setup.set_up import set_up

SCRIPT = REPOSITORY / "models" / "offline.py"


@dataclass(frozen=True)
class Vectors:
    """values: float32 [texts, dimension], of L2 norm 1, rounded to float16 as they travel between the services.

    tokens: int32 [texts], of the whole texts. version: of the embedder.
    """

    values: NDArray[np.float32]
    tokens: NDArray[np.int32]
    version: str


def embed(place: Home, texts: Sequence[str], report: Report, encoder: str = "embedder") -> Vectors:
    """texts: one at least. encoder: by its name in Triton.

    Sets up the models' environment and files where they are missing.

    Raises SetupError, and CommandError where the engine cannot start.
    """
    said = _ask(place, {"texts": list(texts)}, report, "--encoder", encoder)
    return Vectors(said["vectors"].astype(np.float16).astype(np.float32), said["tokens"], str(said["version"]))


def verify(place: Home, pairs: Sequence[tuple[str, str]], report: Report) -> NDArray[np.float32]:
    """pairs: (cached, asked), one at least. The verifier's logits, float32 [pairs]. Raises as `embed` does."""
    return _ask(place, {"pairs": [list(pair) for pair in pairs]}, report)["logits"]


def _ask(place: Home, question: dict[str, Any], report: Report, *options: str) -> dict[str, NDArray[Any]]:
    set_up(place, (MODELS, MODEL_FILES), report)
    with tempfile.TemporaryDirectory(prefix="millpond-") as scratch:
        given, answered = Path(scratch) / "in.json", Path(scratch) / "out.npz"
        given.write_text(json.dumps(question))
        command = [str(place.models_python), str(SCRIPT), "--assets", str(place.assets), *options]
        finished = subprocess.run(
            [*command, "--input", str(given), "--output", str(answered)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            lines = finished.stderr.strip().splitlines() or ["no reason given"]
            raise CommandError(f"the models did not answer: {lines[-1]}", 1)
        with np.load(answered, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
