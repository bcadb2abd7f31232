"""`./millpond eval WHAT`: how good a part is, on data that is given. One module for each."""

from __future__ import annotations

import typer

from millpond_cli.commands.eval import cache, router

app = typer.Typer(
    help="Measure how good a part is on your data.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
app.command("router")(router.router)
app.command("cache")(cache.cache)
