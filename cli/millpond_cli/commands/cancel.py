"""`./millpond cancel ID`, `./millpond cancel --batch BATCH`"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from millpond.v1 import control_pb2, result_pb2
from millpond_cli.client import Results
from millpond_cli.commands import batch
from millpond_cli.delivery import deliver
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_of
from millpond_core import json_codec, topics
from millpond_core.identity import MAX_ID_CHARACTERS, NO_TENANT, is_id, is_tenant, key_of
from millpond_core.processor import Outgoing
from millpond_core.stage import STATUS_WORDS

PATIENCE_S = 10.0
"""Seconds until a result is not waited for any more: stages hear of a cancelling within one."""


def cancel(
    id: Annotated[str | None, typer.Argument(help="The request's id.")] = None,
    of_batch: Annotated[
        str | None, typer.Option("--batch", metavar="BATCH", help="Instead: all requests with this metadata.batch.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose request it is.")] = NO_TENANT,
    replay: Annotated[int, typer.Option(min=0, help="Which replay from the dead letters is meant.")] = 0,
) -> None:
    """End a request that waits, wherever it does, and wait for its result. One that was answered stays answered."""
    if (id is None) == (of_batch is None):
        raise CommandError("cancel: name either a request's id or --batch BATCH")
    if id is None:
        batch.cancel(of_batch or "", tenant)
        return
    if not is_id(id):
        raise CommandError(f"an id has 1 to {MAX_ID_CHARACTERS} printable characters")
    if not is_tenant(tenant):
        raise CommandError(f"--tenant {tenant}: must be 1 to 64 of A-Z a-z 0-9 . _ -")
    settings = settings_of(addresses_here())
    with Results(settings) as results:
        cancelled = control_pb2.Control(cancel=control_pb2.Cancel(tenant=tenant, id=id, replay=replay))
        deliver(settings, [Outgoing(topics.CONTROL, key_of(tenant, id, replay), json_codec.encode(cancelled))])
        until = time.monotonic() + PATIENCE_S
        while (left_s := until - time.monotonic()) > 0:
            for result in results.take(left_s):
                if (result.tenant, result.id, result.replay) == (tenant, id, replay):
                    print(f"{id}: {STATUS_WORDS[result.status]}")
                    raise SystemExit(0 if result.status == result_pb2.STATUS_CANCELLED else 1)
    print(
        f"{id}: no result within {PATIENCE_S:.0f} s: it was answered before, or nobody has sent it yet. "
        "Sent within two days, it will be cancelled"
    )
    raise SystemExit(1)
