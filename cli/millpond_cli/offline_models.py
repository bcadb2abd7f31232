"""The served embedder and verifier without a server: models/offline.py, run by the models' environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millpond_cli.errors import CommandError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.pieces import MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report
from millpond_cli.setup.set_up import set_up

Answers = dict[str, NDArray[np.float32]]


def ask(home: Home, texts: Sequence[str], pairs: Sequence[tuple[str, str]], report: Report) -> Answers:
    """`vectors` [texts, 384], `tokens` [texts] and `logits` [pairs].

    Sets up the models' environment and files where they are missing. Raises SetupError and CommandError.
    """
    set_up(home, (MODELS, MODEL_FILES), report)
    with tempfile.TemporaryDirectory(prefix="millpond-") as scratch:
        given, answered = Path(scratch) / "in.json", Path(scratch) / "out.npz"
        given.write_text(json.dumps({"texts": list(texts), "pairs": [list(pair) for pair in pairs]}))
        command = [str(home.models_python), str(REPOSITORY / "models" / "offline.py"), "--assets", str(home.assets)]
        finished = subprocess.run(
            [*command, "--input", str(given), "--output", str(answered)], capture_output=True, text=True, check=False
        )
        if finished.returncode:
            lines = finished.stderr.strip().splitlines() or ["no reason given"]
            raise CommandError(f"the models did not answer: {lines[-1]}")
        with np.load(answered) as stored:
            return {name: stored[name] for name in stored.files}
