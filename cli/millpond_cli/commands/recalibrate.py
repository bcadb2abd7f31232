"""`./millpond recalibrate --to FILE`"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond.v1 import feedback_pb2
from millpond_cli import feedback_topic
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import writable, write
from millpond_cli.here import addresses_here, settings_here, settings_of
from millpond_cli.setup.home import home
from millpond_core import json_codec
from millpond_core.errors import Malformed

if TYPE_CHECKING:
    from millpond_router.outcomes import Promise


def recalibrate(
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the router's setting `calibration` looks for it.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE.jsonl", help="Judgements, in place of those on ai.feedback.")
    ] = None,
    roll_back: Annotated[bool, typer.Option("--roll-back", help="Go back to what was learned before.")] = False,
    heads: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Other heads than the router's.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report there.")] = None,
) -> None:
    """Compare what was promised of each model with what came of it, and let the promises follow.

    Without --to it only reports. Exit status 1 where a model's recent answers drift from what is promised of it.
    """
    from millpond_router import head_folder, outcomes
    from millpond_router.heads import HeadsError
    from millpond_router.settings import RouterSettings

    writable(json_file)
    writable(to, "--to")
    if roll_back:
        if to is None:
            raise CommandError("--roll-back: name the file with --to")
        try:
            outcomes.roll_back(to)
        except outcomes.LearnedError as failure:
            raise CommandError(str(failure)) from None
        print(f"{to}: " + ("as it was before" if to.exists() else "taken away: the heads' own promises hold again"))
        return
    judgements, unread = read(source) if source else feedback_topic.read(settings_of(addresses_here()))
    try:
        folder = heads or settings_here(RouterSettings).router.heads or head_folder.SHIPPED
        version = head_folder.read(folder).version
    except HeadsError as failure:
        raise CommandError(str(failure), 1) from None
    found = outcomes.Outcomes(version)
    others = 0
    for each, at_s in judgements:
        try:
            others += not found.add(each, at_s)
        except outcomes.WrongFeedback:
            unread += 1
    report = found.report()
    Console().print(table(report))
    print(f"of heads {version}; {others} judgements are of other heads, {unread} could not be read")
    if to is not None and report:
        outcomes.write(found.learned(), to)
        print(f"{to}: written; --roll-back goes back")
    if json_file is not None:
        written = {**as_json(report, version), "targets": targets(report), "environment": environment(home())}
        write(json_file, written)
    if alarming := [model for model, promise in report.items() if promise.is_alarming]:
        raise CommandError(f"{', '.join(alarming)}: recent answers are not what is promised of them", 1)


def read(file: Path) -> tuple[Sequence[tuple[feedback_pb2.Feedback, float]], int]:
    """(judgements, each later than the one before; lines that are none). Raises CommandError."""
    try:
        lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as failure:
        raise CommandError(f"{file}: cannot be read: {failure.strerror}") from None
    found: list[tuple[feedback_pb2.Feedback, float]] = []
    for number, line in enumerate(lines):
        try:
            found.append((json_codec.decode(line, feedback_pb2.Feedback), number))
        except Malformed:
            continue
    return found, len(lines) - len(found)


def table(report: Mapping[str, Promise]) -> Table:
    shown = Table("model", "outcomes", "promised", "observed", "drift", box=None, pad_edge=False, header_style="bold")
    for model, promise in report.items():
        drift = "too few" if promise.drift is None else f"{promise.drift:+.1f} sd"
        shown.add_row(model, str(promise.outcomes), f"{promise.promised:.3f}", f"{promise.observed:.3f}", drift)
    return shown


def as_json(report: Mapping[str, Promise], heads: str) -> dict[str, Any]:
    models = {
        model: {
            "outcomes": promise.outcomes,
            "promised": round(promise.promised, 4),
            "observed": round(promise.observed, 4),
            "drift_sd": None if promise.drift is None else round(promise.drift, 2),
        }
        for model, promise in report.items()
    }
    return {"heads": heads, "models": models}


def targets(report: Mapping[str, Promise]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"promised and observed quality apart, {model}",
            "value": round(abs(promise.promised - promise.observed), 4),
            "unit": "share",
            "bound": 0.03,
            "better": "lower",
        }
        for model, promise in report.items()
    ]
