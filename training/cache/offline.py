"""The served embedder and verifier, asked from training: models/offline.py run by the models' environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCRIPT = Path(__file__).resolve().parents[2] / "models" / "offline.py"


@dataclass(frozen=True)
class Models:
    """python: of the models' environment. assets: the folder that models/prepare.py filled."""

    python: Path
    assets: Path

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._ask({"texts": list(texts)})["vectors"]

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        return self._ask({"pairs": [list(pair) for pair in pairs]})["logits"]

    def _ask(self, question: dict[str, object]) -> dict[str, NDArray[np.float32]]:
        with tempfile.TemporaryDirectory() as scratch:
            given, answered = Path(scratch) / "in.json", Path(scratch) / "out.npz"
            given.write_text(json.dumps(question))
            threads = str(os.cpu_count() or 1)
            command = [str(self.python), str(SCRIPT), "--assets", str(self.assets), "--threads", threads]
            subprocess.run([*command, "--input", str(given), "--output", str(answered)], check=True)
            with np.load(answered) as stored:
                return {name: stored[name] for name in stored.files}
