"""Embeds texts without Triton: `python models/embed_lines.py --assets DIR [--encoder NAME] < LINES > VECTORS`.

Run by the model environment's Python. LINES: one JSON string a line. VECTORS: a .npy file, float16 [lines, dimension],
as vectors travel between the services. The embedder's version is the first line on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "embedder" / "1")]

from embedder_engine import EmbedderUnavailable, open_engine
from serve import EXPORTED

LOOKED_AT_CHARACTERS = 4096
"""Of a text, as the services send it to Triton (millpond_core/embedder.py)."""

AT_ONCE = 512


def version_of(encoder: str, assets: Path) -> str:
    """As the model's configuration says it; the embedder's stands here, others were exported among the model files.

    Raises EmbedderUnavailable.
    """
    here = HERE / encoder / "config.pbtxt"
    file = here if here.is_file() else assets / EXPORTED / encoder / "config.pbtxt"
    try:
        return file.read_text().split('key: "version" value: { string_value: "')[1].split('"')[0]
    except (OSError, IndexError) as failure:
        raise EmbedderUnavailable(f"there is no encoder {encoder}: training/router/export.py makes one") from failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="The folder that models/prepare.py filled.")
    parser.add_argument("--encoder", default="embedder", help="By its name in Triton.")
    given = parser.parse_args()
    try:
        version = version_of(given.encoder, given.assets)
        engine = open_engine("int8", given.assets / given.encoder, version)
    except EmbedderUnavailable as failure:
        sys.exit(str(failure))
    print(version, file=sys.stderr, flush=True)
    texts = [json.loads(line)[:LOOKED_AT_CHARACTERS] for line in sys.stdin.buffer]
    parts = [engine.embed(texts[first : first + AT_ONCE]).vectors for first in range(0, len(texts), AT_ONCE)]
    vectors = np.concatenate(parts) if parts else np.zeros((0, engine.dimension), np.float32)
    np.save(sys.stdout.buffer, vectors.astype(np.float16))


if __name__ == "__main__":
    main()
