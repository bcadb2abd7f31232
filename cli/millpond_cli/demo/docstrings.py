"""Real text that is on any machine: what the installed standard library says of itself."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PER_FILE = 12
"""Texts of one file: after a dozen, another file's text is more different."""

CHARACTERS = range(160, 1200)
"""Of a docstring that is worth summarising and is read in a moment."""

CODE_LINES = range(8, 30)
"""Of a function that is worth explaining and fits beside its question."""

PASSED_OVER = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
"""Folders that are not the library itself, or that not every installation has."""


@dataclass(frozen=True)
class Text:
    """name: "argparse.ArgumentParser". code: the source, where it is a function with a docstring, else ""."""

    name: str
    docstring: str
    code: str


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def texts(library: Path) -> Iterator[Text]:
    """In an order that one version of Python always has. Files are read, not imported: importing may do things."""
    seen: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if PASSED_OVER.isdisjoint(parts):
            yield from _texts_in(path, ".".join(part for part in parts if part != "__init__"), seen)


def _texts_in(path: Path, module: str, seen: set[str]) -> Iterator[Text]:
    try:
        source = path.read_text("utf-8")
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError):
        return
    count = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None or len(docstring) not in CHARACTERS or docstring in seen:
            continue
        seen.add(docstring)
        code = "" if isinstance(node, ast.ClassDef) else ast.get_source_segment(source, node) or ""
        lines = code.count("\n") + 1
        yield Text(f"{module}.{node.name}", docstring, code if lines in CODE_LINES else "")
        count += 1
        if count == PER_FILE:
            return


def first_paragraph(docstring: str) -> str:
    return re.split(r"\n\s*\n", docstring, maxsplit=1)[0]
