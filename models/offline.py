"""What the embedder and the verifier say of many texts, without a server: for evaluations and training.

    python models/offline.py --assets DIR --input FILE.json --output FILE.npz [--threads 1]

The input is {"texts": [text, …], "pairs": [[cached, asked], …]}, either of them empty or left out. The output holds
`vectors` float32 [texts, 384], `tokens` int32 [texts] and `logits` float32 [pairs]: what Triton's models answer, by the
same engines.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "embedder" / "1"), str(HERE / "verifier" / "1")]

AT_ONCE = 512
"""Texts or pairs given to an engine in one call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True, help="the folder that prepare.py filled")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores")
    arguments = parser.parse_args()
    given = json.loads(arguments.input.read_text())
    answered: dict[str, np.ndarray] = {}
    if texts := given.get("texts"):
        from int8_engine import Int8Engine

        engine = Int8Engine(arguments.assets / "embedder", _embedder_version())
        parts = [engine.embed(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE)]
        answered["vectors"] = np.concatenate([part.vectors for part in parts])
        answered["tokens"] = np.concatenate([part.tokens for part in parts])
    if pairs := given.get("pairs"):
        from verifier_engine import VerifierEngine

        verifier = VerifierEngine(arguments.assets, arguments.threads)
        scored = [
            verifier.score([(one, other) for one, other in pairs[first : first + AT_ONCE]])
            for first in range(0, len(pairs), AT_ONCE)
        ]
        answered["logits"] = np.concatenate(scored)
    np.savez(arguments.output, **answered)


def _embedder_version() -> str:
    config = (HERE / "embedder" / "config.pbtxt").read_text()
    found = re.search(r'key: "version" value: \{ string_value: "([^"]+)"', config)

    if found is None:
        raise SystemExit("offline: embedder/config.pbtxt names no version")
    return found[1]


if __name__ == "__main__":
    main()
