"""Figures and their targets, and the JSON file that a command writes them to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from millpond_cli.errors import CommandError


def target(name: str, value: float, unit: str, bound: float, better: Literal["lower", "higher"]) -> dict[str, Any]:
    """A figure as it was measured, and what it is held to."""
    return {"name": name, "value": value, "unit": unit, "bound": bound, "better": better}


def is_met(figure: Mapping[str, Any]) -> bool:
    value, bound = figure["value"], figure["bound"]
    return value <= bound if figure["better"] == "lower" else value >= bound


def writable(file: Path | None, option: str = "--json") -> Path | None:
    """Before anything is done whose figures would be lost. Raises CommandError."""
    if file is None:
        return None
    if not file.absolute().parent.is_dir():
        raise CommandError(f"{option} {file}: there is no such folder")
    if file.is_dir():
        raise CommandError(f"{option} {file}: is a folder, not a file")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise CommandError(f"{option} {file}: may not be written")
    return file


def write(file: Path | None, figures: Mapping[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")


def show_targets(console: Console, targets: Sequence[Mapping[str, Any]]) -> None:
    table = Table("target", "measured", "bound", "", box=None, pad_edge=False)
    for each in targets:
        sign = "at most" if each["better"] == "lower" else "at least"
        measured = f"{each['value']:,} {each['unit']}"
        table.add_row(each["name"], measured, f"{sign} {each['bound']:,}", "met" if is_met(each) else "not met")
    console.print(table)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank). values: at least one, in any order."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1]
