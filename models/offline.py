"""What an encoder and the verifier say of many texts, without a server: for commands, evaluations and training.

    python models/offline.py --assets DIR --input FILE.json --output FILE.npz [--encoder NAME] [--threads 1]

The input is {"texts": [text, …], "pairs": [[cached, asked], …]}, either of them empty or left out. The output holds
`version` (the encoder's), `vectors` float32 [texts, 384], `tokens` int32 [texts] and `logits` float32 [pairs]: what
Triton's models answer, by the same engines.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "embedder" / "1"), str(HERE / "verifier" / "1")]

from embedder_engine import EmbedderUnavailable, open_engine
from serve import EXPORTED

LOOKED_AT_CHARACTERS = 4096
"""Of a text that is embedded, as the services send it to Triton (millpond_core/embedder.py)."""

AT_ONCE = 512
"""Texts or pairs given to an engine in one call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="the folder that prepare.py filled")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--encoder", default="embedder", help="of the texts, by its name in Triton")
    parser.add_argument("--threads", type=int, default=0, help="of the verifier; 0 takes all cores")
    arguments = parser.parse_args()
    given = json.loads(arguments.input.read_text())
    answered: dict[str, np.ndarray] = {}
    try:
        version = version_of(arguments.encoder, arguments.assets)
        answered["version"] = np.array(version)
        if texts := [text[:LOOKED_AT_CHARACTERS] for text in given.get("texts", ())]:
            engine = open_engine("int8", arguments.assets / arguments.encoder, version)
            parts = [engine.embed(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE)]
            answered["vectors"] = np.concatenate([part.vectors for part in parts])
            answered["tokens"] = np.concatenate([part.tokens for part in parts])
    except EmbedderUnavailable as failure:
        sys.exit(str(failure))
    if pairs := [(cached, asked) for cached, asked in given.get("pairs", ())]:
        answered["logits"] = logits_of(pairs, arguments.assets, arguments.threads)
    np.savez(arguments.output, **answered)


def logits_of(pairs: list[tuple[str, str]], assets: Path, threads: int) -> np.ndarray:
    """Of the verifier, float32 [pairs]. threads: 0 takes all cores. Ends the program where it cannot start."""
    from verifier_engine import VerifierEngine, VerifierUnavailable

    try:
        verifier = VerifierEngine(assets, threads)
    except VerifierUnavailable as failure:
        sys.exit(str(failure))
    return np.concatenate([verifier.score(pairs[first : first + AT_ONCE]) for first in range(0, len(pairs), AT_ONCE)])


def version_of(encoder: str, assets: Path) -> str:
    """As the model's configuration says it; the embedder's stands here, others were exported among the model files.

    Raises EmbedderUnavailable.
    """
    here = HERE / encoder / "config.pbtxt"
    file = here if here.is_file() else assets / EXPORTED / encoder / "config.pbtxt"
    found = re.search(r'key: "version" value: \{ string_value: "([^"]+)"', file.read_text()) if file.is_file() else None
    if found is None:
        raise EmbedderUnavailable(f"there is no encoder {encoder}: training/router/export.py makes one")
    return found[1]


if __name__ == "__main__":
    main()
