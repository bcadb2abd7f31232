"""The figures of a run, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millpond_cli.demo.summary import Summary

if TYPE_CHECKING:
    from millpond_core.cost import Price
    from millpond_core.settings import ModelSettings

WHO = {"cache": "cache", "small": "small model", "frontier": "large model", "none": "nobody"}
HITS = {"exact": "the same words", "semantic": "other words"}


def tables(summary: Summary, models: Sequence[ModelSettings], config: Path, *, has_stand_in: bool) -> Group:
    """config: the file that the prices are from. has_stand_in: whether the large model is one."""
    parts: list[RenderableType] = [
        Text(f"\n{summary.requests} requests, {summary.ok} answers in {summary.wall_s:.0f} s\n", style="bold"),
        answers(summary, has_stand_in=has_stand_in),
        "",
        tiers(summary),
        Text(
            f"\n{summary.batches.count} batches of the small model, {summary.batches.mean_size:.1f} requests in one\n"
        ),
        money(summary, models),
        Text(f"Prices are configuration, {shown(config)}: put your own."),
    ]
    if has_stand_in:
        parts.append(
            Text(
                "The large model is a stand-in: the small one again, behind an OpenAI-compatible endpoint, one "
                "request at a time and no better. docs/providers.md says how to use a real one."
            )
        )
    if summary.errors:
        parts.append(Text("\nerrors: " + ", ".join(f"{code} {count}" for code, count in summary.errors.items())))
    if summary.from_before:
        parts.append(Text(f"\n{summary.from_before} of the cache's answers are from before this run: it was warm."))
    if summary.late_realtime:
        parts.append(Text("Realtime requests are due in seconds: this machine is too slow for so many, or busy."))
    return Group(*parts)


def answers(summary: Summary, *, has_stand_in: bool) -> Table:
    table = _table("answered by", "requests", "share", "tokens read", "written", "cost")
    for route, name in WHO.items():
        count = summary.by_route[route]
        if not count:
            continue
        tokens, spent = summary.tokens_by_route[route], summary.cost_by_route[route]
        table.add_row(
            f"{name} (stand-in)" if route == "frontier" and has_stand_in else name,
            str(count),
            f"{count / summary.results:.0%}",
            f"{tokens.input_tokens:,}",
            f"{tokens.output_tokens:,}",
            _dollars(spent),
        )
        if route == "cache":
            for kind, words in HITS.items():
                table.add_row(f"  {words}", str(summary.by_hit.get(kind, 0)), style="dim")
    return table


def tiers(summary: Summary) -> Table:
    table = _table("tier", "answers", "half within", "95 in 100 within")
    for tier, latency in summary.by_tier.items():
        table.add_row(tier, str(latency.count), _seconds(latency.p50_ms), _seconds(latency.p95_ms))
    return table


def money(summary: Summary, models: Sequence[ModelSettings]) -> Table:
    large = next(model for model in models if model.role == "frontier")
    synchronous, batch = large.price.synchronous, large.price.batch
    cost = summary.cost
    table = _table("the same answers", "cost", "share", "how")
    table.columns[3].justify = "left"
    for way, amount, how in (
        ("synchronously", cost.synchronous, f"large model, {_price(synchronous)}"),
        ("by batch", cost.batch, f"its batch interface, {_price(batch)}"),
        ("hybrid", cost.hybrid, "cache, small model, large one by batch"),
        ("as run here", cost.actual, "the same, large one called at once"),
    ):
        share = f"{amount / cost.synchronous:.1%}" if cost.synchronous else "-"
        table.add_row(way, _dollars(amount), share, how)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def shown(path: Path) -> str:
    """As short as it can be named from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _dollars(amount: Decimal) -> str:
    return f"${amount:.4f}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _price(price: Price) -> str:
    if price.input == price.output:
        return f"${price.input} per million tokens"
    return f"${price.input} and ${price.output} per million tokens"
