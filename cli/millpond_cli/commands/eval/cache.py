"""`./millpond eval cache FILE.jsonl`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from millpond_cache.trial import BUDGETS, SHIPPED_BUDGET
from millpond_cli.cache_trial import COSINES, Trial, read_pairs, targets, tried
from millpond_cli.environment import environment
from millpond_cli.figures import writable, write
from millpond_cli.setup.home import home
from millpond_cli.setup.progress import shown


def cache(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.jsonl…", help='Lines of {"a", "b", "same": 0|1}.')],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    decisions: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write each pair's decision and its reasons there.")
    ] = None,
) -> None:
    """Ask the cache's stages about pairs of questions: `a` is cached, `b` is asked.

    The shipped models, heads and thresholds, in this process and without a stack; nothing is fitted on the files.
    """
    writable(json_file)
    writable(decisions, "--decisions")
    place = home()
    pairs = {str(path): read_pairs(path) for path in files}
    with shown() as report:
        found = tried(pairs, place, report)
    print(
        "the cache's stages and the shipped models, in process: no Kafka, no Milvus, no Triton; nothing is fitted on "
        "these files\n"
    )
    console = Console()
    for name, trial in found.items():
        console.print(table(name, trial))
    write(json_file, as_json(found, environment(place)))
    if decisions is not None:
        with decisions.open("w") as sink:
            for name, trial in found.items():
                sink.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in trial.lines(name))


def as_json(found: dict[str, Trial], environment: dict[str, Any]) -> dict[str, Any]:
    return {
        "files": {name: trial.as_json() for name, trial in found.items()},
        "how": "in process, without a stack: the service's stages, the served models' engines, the shipped thresholds",
        "targets": [target for name, trial in found.items() for target in targets(name, trial)],
        "environment": environment,
    }


def table(name: str, trial: Trial) -> Table:
    shown = Table(
        "", "hits", "wrong", "error", "at least (95 %)", "recall", "coverage", box=None, pad_edge=False,
        header_style="bold", title_justify="left",
        title=f"{name}: {len(trial.pairs)} pairs, AUC {_shown(trial.auc)} (cosine {_shown(trial.cosine_auc)})",
    )  # fmt: skip
    rows = [
        (f"error budget {budget:.0%}" + (" (shipped)" if budget == SHIPPED_BUDGET else ""), trial.outcomes(budget))
        for budget in BUDGETS
    ]
    rows += [(f"cosine {least}", trial.cosine_outcomes(least)) for least in COSINES]
    for label, each in rows:
        shares = (each.error, each.error_low95, each.recall, each.coverage)
        shown.add_row(label, str(each.hits), str(each.wrong), *(f"{share:.1%}" for share in shares))
    return shown


def _shown(auc: float | None) -> str:
    return "unknown" if auc is None else f"{auc:.3f}"
