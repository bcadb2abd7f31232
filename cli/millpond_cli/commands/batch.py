"""`./millpond hold BATCH` and `./millpond resume BATCH`"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from millpond.v1 import control_pb2
from millpond_cli.delivery import deliver
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_of
from millpond_core import json_codec, topics
from millpond_core.batch_name import BatchName
from millpond_core.identity import NO_TENANT, is_tenant
from millpond_core.processor import Outgoing

Name = Annotated[str, typer.Argument(metavar="BATCH", help="The requests' metadata.batch.")]
Tenant = Annotated[str, typer.Option(help="Whose requests they are.")]


def hold(batch: Name, tenant: Tenant = NO_TENANT) -> None:
    """Start no more of a batch until it is resumed or cancelled. What runs is finished; deadlines go on."""
    say("hold_batch", batch, tenant)
    print(f"{batch}: held. Go on with: ./millpond resume, or ./millpond cancel --batch")


def resume(batch: Name, tenant: Tenant = NO_TENANT) -> None:
    """Go on with a batch that is held, by somebody or since its first answers failed their checks."""
    say("resume_batch", batch, tenant)
    print(f"{batch}: goes on, where it was held or cancelled")


def cancel(batch: str, tenant: str) -> None:
    say("cancel_batch", batch, tenant)
    print(
        f"{batch}: what has no answer ends as cancelled, and so does what comes within two days, unless it is resumed"
    )


def say(action: Literal["hold_batch", "resume_batch", "cancel_batch"], batch: str, tenant: str) -> None:
    """Raises CommandError."""
    if not batch:
        raise CommandError("a batch has a name: the metadata.batch of its requests")
    if not is_tenant(tenant):
        raise CommandError(f"--tenant {tenant}: must be 1 to 64 of A-Z a-z 0-9 . _ -")
    control = control_pb2.Control()
    getattr(control, action).CopyFrom(control_pb2.Batch(tenant=tenant, name=batch))
    # All that is said of one batch is in one partition: the last word holds.
    record = Outgoing(topics.CONTROL, BatchName(tenant, batch).key, json_codec.encode(control))
    deliver(settings_of(addresses_here()), [record])
