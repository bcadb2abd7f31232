"""The generated code in the repository is what its .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parents[2] / "proto"


def files_under(folder: Path) -> dict[str, bytes]:
    paths = [path for pattern in ("*.py", "*.pyi") for path in folder.glob(f"millpond/v1/{pattern}")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_generated_code_is_that_of_its_source(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTO / "generate.py", "--target", tmp_path], check=True)
    generated, committed = files_under(tmp_path), files_under(PROTO / "python")
    assert sorted(generated) == sorted(committed)
    differing = [name for name in generated if generated[name] != committed[name]]
    assert not differing, f"run `python proto/generate.py`: {differing} differ"
