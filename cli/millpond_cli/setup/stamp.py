"""Says whether something was made from what it would be made from now.

The stamp is written last: what has none was interrupted, or never begun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest(recipe: str, files: Iterable[Path] = ()) -> str:
    """sha256 over a description of how the thing is made, and over the names and bytes of the files it is made from."""
    whole = hashlib.sha256(recipe.encode())
    for file in files:
        content = file.read_bytes()
        whole.update(f"\0{file.name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def is_current(stamp: Path, expected: str) -> bool:
    try:
        return stamp.read_text().strip() == expected
    except OSError:
        return False


def write(stamp: Path, made_from: str) -> None:
    """Appears whole or not at all."""
    partial = stamp.with_name(f"{stamp.name}.partial")
    partial.write_text(made_from + "\n")
    partial.replace(stamp)
