"""`./millpond tail`"""

from __future__ import annotations

from typing import Annotated

import typer

from millpond.v1 import result_pb2
from millpond_cli.client import Results
from millpond_cli.here import addresses_here, settings_of
from millpond_cli.printable import printable
from millpond_core import json_codec
from millpond_core.stage import ROUTE_WORDS, STATUS_WORDS

TEXT_CHARACTERS = 72
"""Of an answer, so that a result is a line."""

LOOK_S = 0.5
"""Seconds that Ctrl-C waits at most."""


def tail(
    as_json: Annotated[bool, typer.Option("--json", help="Each result whole, as JSON.")] = False,
) -> None:
    """Follow ai.results from now on; Ctrl-C ends it."""
    with Results(settings_of(addresses_here())) as results:
        while True:
            for result in results.take(LOOK_S):
                print(json_codec.encode(result).decode() if as_json else one_line(result), flush=True)


def one_line(result: result_pb2.Result) -> str:
    """ "ok small acme/invoice-1841 31 ms $0.000005 The text …" """
    if result.status == result_pb2.STATUS_OK:
        said = " ".join(result.output.text.split())
    else:
        said = f"{result.error.code}: {result.error.message}"
    if len(said) > TEXT_CHARACTERS:
        said = said[: TEXT_CHARACTERS - 1] + "…"
    return (
        f"{STATUS_WORDS[result.status]:9} {ROUTE_WORDS[result.served_by.route]:8} "
        f"{printable(f'{result.tenant}/{result.id}')} {result.timings_ms['total']:.0f} ms ${result.cost_usd} "
        f"{printable(said)}"
    )
