"""`./millpond shadow`"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from millpond_cli import metrics_page
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here


def shadow() -> None:
    """Show what the candidate heads (router.shadow_heads) would have chosen, since the routers were started."""
    services = addresses_here().http
    routers = [f"{url}/metrics" for name, url in services.items() if name.partition("-")[0] == "router"]
    chosen = metrics_page.read(routers).by("millpond_shadow_decisions_total", "live", "candidate")
    if not chosen:
        raise CommandError("nothing was decided twice: router.shadow_heads names a folder with candidates", 1)
    different = sum(count for (live, candidate), count in chosen.items() if live != candidate)
    every = sum(chosen.values())
    print(f"{every:.0f} decisions, {different:.0f} of them different ({different / every:.1%})\n")
    Console().print(table(chosen))


def table(chosen: Mapping[tuple[str, ...], float]) -> Table:
    every = sum(chosen.values())
    shown = Table("live", "candidate", "decisions", "share", box=None, pad_edge=False, header_style="bold")
    for (live, candidate), count in sorted(chosen.items(), key=lambda each: -each[1]):
        shown.add_row(live, candidate, f"{count:.0f}", f"{count / every:.1%}")
    return shown
