"""GPTCache beside Millpond: gptcache_loop.py in GPTCache's own environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from millpond_cli.bench.cache.entries import Texts
from millpond_cli.errors import CommandError
from millpond_cli.setup import environments
from millpond_cli.setup.home import Home

SCRIPT = Path(__file__).with_name("gptcache_loop.py")


@dataclass(frozen=True)
class GptCacheMeasured:
    """milliseconds: of each look-up alone. per_s: look-ups a second, by how many threads asked."""

    milliseconds: Sequence[float]
    per_s: Mapping[str, float]
    learned_per_s: float
    found: int

    @property
    def best_per_s(self) -> float:
        return max(self.per_s.values())


def measure(place: Home, entries: Texts, questions: Texts, k: int) -> GptCacheMeasured:
    """Its environment must be set up. Raises CommandError with what it said last."""
    with tempfile.TemporaryDirectory(prefix="millpond-gptcache-") as scratch:
        folder = Path(scratch)
        for name, texts in (("entries", entries), ("asked", questions)):
            np.save(folder / f"{name}.npy", texts.vectors)
            (folder / f"{name}.json").write_text(json.dumps(list(texts.texts)))
        python = environments.gptcache(place).python
        ended = subprocess.run(
            [str(python), str(SCRIPT), "--data", str(folder), "--k", str(k)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        raise CommandError(f"GPTCache ended: {said[-1] if said else 'it said nothing'}", 1)
    figures = json.loads(ended.stdout.strip().splitlines()[-1])
    return GptCacheMeasured(**figures)
