"""Heads as they are deployed: a folder with `heads.json`, which names the file in use and its hash.

    {"file": "heads-1.npz", "sha256": "…"}

New heads are copied beside the old ones; replacing `heads.json`, in one step, switches to them, or back.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from millpond_router.heads import Heads, HeadsError
from millpond_router.heads import read as read_heads

SHIPPED = Path(__file__).with_name("heads")

MANIFEST = "heads.json"


def read(folder: Path) -> Heads:
    """Raises HeadsError where the folder, the file or its hash is not as it should be."""
    manifest = folder / MANIFEST
    try:
        named = json.loads(manifest.read_text("utf-8"))
        name, digest = str(named["file"]), str(named["sha256"])
    except OSError as failure:
        raise HeadsError(f"{manifest}: cannot be read: {failure.strerror}") from failure
    except (ValueError, KeyError, TypeError) as failure:
        raise HeadsError(f'{manifest}: must be {{"file": …, "sha256": …}}: {failure}') from failure
    if Path(name).name != name or "\0" in name:
        raise HeadsError(f"{manifest}: file: must be a name in this folder, not {name!r}")
    file = folder / name
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as failure:
        raise HeadsError(f"{file}: cannot be read: {failure.strerror}") from failure
    if found != digest:
        raise HeadsError(f"{file}: has the hash {found[:12]}…, and {MANIFEST} names {digest[:12]}…: copy it again")
    return read_heads(file)


def write_manifest(folder: Path, file: str) -> None:
    """Switch to this file of the folder."""
    content = {"file": file, "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest()}
    beside = folder / f"{MANIFEST}.new"
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.replace(folder / MANIFEST)
