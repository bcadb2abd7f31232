"""`./millpond bench WHAT`: how fast a part is, on this machine. One module for each."""

from __future__ import annotations

import typer

from millpond_cli.commands.bench import backlog, batching, cache, pipeline, router, tiers

app = typer.Typer(
    help="Measure how fast a part is here.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
app.command("backlog")(backlog.backlog)
app.command("pipeline")(pipeline.pipeline)
app.command("router")(router.router)
app.command("cache")(cache.cache)
app.command("batching")(batching.batching)
app.command("tiers")(tiers.tiers)
