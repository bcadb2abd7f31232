"""`./millpond eval router --task domain|intent|strong-weak|models FILE.jsonl`"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import writable, write
from millpond_cli.offline_models import embed
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.progress import Report, shown
from millpond_cli.typos import with_typos

if TYPE_CHECKING:
    from millpond_cli.router_evaluation import Decisions
    from millpond_router.heads import Answers, Heads
    from millpond_router.intents import Intents

Judge = Callable[["Heads", "Answers"], tuple[dict[str, Any], "Decisions"]]

DOMAIN_ACCURACY, AUROC, INTENT_ACCURACY = 0.985, 0.97, 0.94
APGR, STRONG_SHARE, ECE = 0.70, 0.40, 0.03
ABOVE_BEST, UNCHANGED = 0.04, 0.95


def router(  # noqa: PLR0917
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Rows with the truth; README of the router.")],
    task: Annotated[str, typer.Option(help="domain, intent, strong-weak or models.")],
    fit: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="intent: learn the labels from these rows first.")
    ] = None,
    typos: Annotated[bool, typer.Option("--typos", help="Also say how many decisions typing errors change.")] = False,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="models: dollars a question, by model.")
    ] = None,
    heads: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Other heads than those that are shipped.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="NAME", help="Whose vectors they look at; training/router/export.py makes others.")
    ] = "embedder",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
) -> None:
    """Measure the router's heads on rows that they have not seen, beside routers that look at nothing.

    Needs no stack. Nothing is learned from FILE.
    """
    from millpond_cli import router_evaluation as evaluation

    if task not in get_args(evaluation.Task):
        raise CommandError(f"--task {task}: must be {', '.join(get_args(evaluation.Task))}")
    if fit is not None and task != "intent":
        raise CommandError("--fit is for --task intent: other heads are fitted by training/router")
    writable(json_file)
    place = home()
    with shown() as report:
        figures = measured(
            place, file, task, fit=fit, typos=typos, prices=prices, folder=heads, encoder=encoder, report=report
        )
    figures |= {"file": file.name, "targets": targets(task, figures), "environment": environment(place)}
    Console().print(table(figures), highlight=False)
    write(json_file, figures)


def measured(
    place: Home,
    file: Path,
    task: str,
    *,
    fit: Path | None,
    typos: bool,
    prices: Path | None,
    folder: Path | None,
    encoder: str,
    report: Report,
) -> dict[str, Any]:
    from millpond_cli import router_evaluation as evaluation
    from millpond_cli.json_rows import read
    from millpond_router import head_folder
    from millpond_router.heads import HeadsError

    rows = read(file, evaluation.ROWS[task])
    try:
        heads = head_folder.read(folder or head_folder.SHIPPED)
    except HeadsError as failure:
        raise CommandError(str(failure), 1) from None
    texts, judge = _task(rows, task, _Given(place, file, fit, prices, heads, encoder, report))

    def ask(those: Sequence[str]) -> tuple[dict[str, Any], Decisions]:
        report("embedder", f"embedding {len(those)} texts")
        vectors = embed(place, those, report, encoder)
        # Labels that are learned here are learned from the same vectors.
        if fit is None and vectors.version != heads.embedder:
            raise CommandError(f"the heads are for the embedder {heads.embedder}, and this is {vectors.version}", 1)
        return judge(heads, heads.ask(vectors.values, those))

    figures, decisions = ask(texts)
    figures = {"task": task, "heads": heads.version, **figures}
    if typos:
        _, others = ask([with_typos(text) for text in texts])
        same = sum(one == other for one, other in zip(decisions, others, strict=True))
        figures["unchanged_with_typos"] = round(same / len(texts), 4)
    return figures


@dataclass(frozen=True)
class _Given:
    place: Home
    file: Path
    fit: Path | None
    prices: Path | None
    heads: Heads
    encoder: str
    report: Report


def _task(rows: Any, task: str, given: _Given) -> tuple[Sequence[str], Judge]:
    """(the texts to ask about, what makes figures of the answers)"""
    from millpond_cli import router_evaluation as evaluation

    if task == "strong-weak":
        threshold: list[float] = []

        def strong_or_weak(_: Heads, answers: Answers) -> tuple[dict[str, Any], Decisions]:
            if threshold:
                return {}, evaluation.decisions_at(answers, threshold[0])
            figures, decisions = evaluation.strong_or_weak(rows, answers)
            threshold.append(figures["threshold"])
            return figures, decisions

        return [row.prompt for row in rows], strong_or_weak
    if task == "models":
        prices = _prices(given.prices)
        try:
            evaluation.known_models(rows, given.heads.labels.models)
        except ValueError as failure:
            raise CommandError(f"{given.file}: {failure}") from None
        return [row.question for row in rows], lambda _, answers: evaluation.best_of_models(rows, answers, prices)
    texts = [row.text for row in rows]
    if given.fit is not None:
        intents = _fitted(given, given.fit)
        return texts, lambda _, answers: evaluation.labelled(rows, intents.says(answers.seen.vectors))
    if task == "domain":
        return texts, lambda _, answers: evaluation.labelled(rows, evaluation.domains_of(answers))
    return texts, lambda _, answers: evaluation.labelled(rows, evaluation.intents_of(answers))


def _fitted(given: _Given, fit: Path) -> Intents:
    """Labels learned from these rows."""
    from millpond_cli import router_evaluation as evaluation
    from millpond_cli.json_rows import read
    from millpond_router.intents import fit_intents

    known = [row for row in read(fit, evaluation.Labelled) if row.label not in evaluation.BEYOND]
    texts, labels = [row.text for row in known], [row.label for row in known]
    given.report("embedder", f"embedding {len(known)} texts to learn from")
    vectors = embed(given.place, texts, given.report, given.encoder)
    given.report("fit", f"learning {len(set(labels))} labels")
    try:
        return fit_intents(vectors.values, labels)
    except ValueError as failure:
        raise CommandError(f"--fit {fit}: {failure}") from None


def _prices(path: Path | None) -> dict[str, float] | None:
    if path is None:
        return None
    try:
        given = json.loads(path.read_text("utf-8"))
        return {str(name): float(price) for name, price in given.items()}
    except OSError as failure:
        raise CommandError(f"--prices {path}: cannot be read: {failure.strerror}") from None
    except (ValueError, AttributeError, TypeError) as failure:
        raise CommandError(f"--prices {path}: must be one JSON object, dollars by model: {failure}") from None


def targets(task: str, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at, with what was measured, met or not."""
    wanted: dict[str, list[tuple[str, str, float, str]]] = {
        "domain": [
            ("domain accuracy", "accuracy", DOMAIN_ACCURACY, "higher"),
            ("out-of-scope AUROC", "out_of_scope_auroc", AUROC, "higher"),
        ],
        "intent": [("intent accuracy", "accuracy", INTENT_ACCURACY, "higher")],
        "strong-weak": [
            ("APGR", "apgr", APGR, "higher"),
            ("strong share at 95 %", "strong_share_at_95", STRONG_SHARE, "lower"),
            ("expected calibration error", "ece", ECE, "lower"),
        ],
        "models": [("score above the best single model", "above_best_single", ABOVE_BEST, "higher")],
    }
    rows = [*wanted[task], ("decisions unchanged with typos", "unchanged_with_typos", UNCHANGED, "higher")]
    return [
        {"name": name, "value": figures[key], "unit": "share", "bound": bound, "better": better}
        for name, key, bound, better in rows
        if key in figures
    ]


def table(figures: dict[str, Any]) -> Table:
    shown_table = Table("figure", "value", box=None, pad_edge=False, header_style="bold")
    for name, value in flat({key: figures[key] for key in figures if key not in ("targets", "environment")}):
        shown_table.add_row(name, value)
    for target in figures["targets"]:
        sign = "≥" if target["better"] == "higher" else "≤"
        shown_table.add_row(f"aim: {target['name']}", f"{target['value']} (aim {sign} {target['bound']})")
    return shown_table


def flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as lines: "baselines.random.apgr"."""
    lines: list[tuple[str, str]] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", str(value)))
    return lines
