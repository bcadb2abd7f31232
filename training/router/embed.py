"""Embeds the data sets once, with the encoder whose vectors the heads are to read, and keeps the vectors.

.millpond/models-env/bin/python training/router/embed.py --data FOLDER --work FOLDER --models .millpond/models
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(REPOSITORY / folder) for folder in ("training/router", "services/router", "models", "models/embedder/1")
]

import offline
from embedder_engine import open_engine

import data_sets

AT_ONCE = 512


def place(work: Path, version: str, texts: Sequence[str]) -> Path:
    digest = hashlib.sha256("\0".join([version, *texts]).encode()).hexdigest()[:16]
    return work / f"vectors-{digest}.npy"


def vectors(work: Path, version: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """What `main` has kept; rounded to float16, as vectors travel. Raises FileNotFoundError."""
    return np.load(place(work, version, texts)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--encoder", default="embedder", help="By its name in Triton; export.py makes others.")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    version = offline.version_of(given.encoder, given.models)
    engine = open_engine("int8", given.models / given.encoder, version)
    sets = (data_sets.clinc150, data_sets.banking77, data_sets.mmlu, data_sets.gsm8k, data_sets.nine_models)
    for read in sets:
        texts = read(given.data).texts
        file = place(given.work, version, texts)
        if file.exists():
            continue
        began = time.monotonic()
        parts = [
            engine.embed([text[: offline.LOOKED_AT_CHARACTERS] for text in texts[first : first + AT_ONCE]]).vectors
            for first in range(0, len(texts), AT_ONCE)
        ]
        np.save(file, np.concatenate(parts).astype(np.float16))
        print(f"{read.__name__}: {len(texts)} texts in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
