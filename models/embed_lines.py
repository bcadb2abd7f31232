"""Embeds texts without Triton: `python models/embed_lines.py --assets DIR < LINES > VECTORS`.

Run by the model environment's Python. LINES: one JSON string a line. VECTORS: a .npy file, float16 [lines, dimension],
as vectors travel between the services. The embedder's version is the first line on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

EMBEDDER = Path(__file__).resolve().parent / "embedder"
sys.path.insert(0, str(EMBEDDER / "1"))

from embedder_engine import EmbedderUnavailable, open_engine

LOOKED_AT_CHARACTERS = 4096
"""Of a text, as the services send it to Triton (millpond_core/embedder.py)."""

AT_ONCE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="The folder that models/prepare.py filled.")
    given = parser.parse_args()
    version = (EMBEDDER / "config.pbtxt").read_text().split('key: "version" value: { string_value: "')[1].split('"')[0]
    print(version, file=sys.stderr, flush=True)
    try:
        engine = open_engine("int8", given.assets / "embedder", version)
    except EmbedderUnavailable as failure:
        sys.exit(str(failure))
    texts = [json.loads(line)[:LOOKED_AT_CHARACTERS] for line in sys.stdin.buffer]
    parts = [engine.embed(texts[first : first + AT_ONCE]).vectors for first in range(0, len(texts), AT_ONCE)]
    vectors = np.concatenate(parts) if parts else np.zeros((0, engine.dimension), np.float32)
    np.save(sys.stdout.buffer, vectors.astype(np.float16))


if __name__ == "__main__":
    main()
