"""Texts to vectors on this machine, without a stack: the embedder's int8 engine in a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millpond_cli.errors import CommandError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.pieces import MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report
from millpond_cli.setup.set_up import set_up

SCRIPT = REPOSITORY / "models" / "embed_lines.py"


@dataclass(frozen=True)
class Vectors:
    """values: [texts, dimension], of L2 norm 1. version: of the embedder."""

    values: NDArray[np.float32]
    version: str


def embed(place: Home, texts: Sequence[str], report: Report, encoder: str = "embedder") -> Vectors:
    """encoder: by its name in Triton.

    Sets up the model environment and its files where they are missing.

    Raises SetupError, and CommandError where the engine cannot start.
    """
    set_up(place, (MODELS, MODEL_FILES), report)
    lines = b"".join(json.dumps(text).encode() + b"\n" for text in texts)
    command = [str(place.models_python), str(SCRIPT), "--assets", str(place.assets), "--encoder", encoder]
    ended = subprocess.run(command, input=lines, capture_output=True, check=False)
    said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
    if ended.returncode != 0:
        raise CommandError(f"the embedder did not start: {said[-1] if said else 'it said nothing'}", 1)
    vectors: Any = np.load(io.BytesIO(ended.stdout), allow_pickle=False)
    return Vectors(vectors.astype(np.float32), said[0])
