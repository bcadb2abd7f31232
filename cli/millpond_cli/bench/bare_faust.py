"""The least that Faust can do: read a record, write it on. What the router's own work is measured against.

    python -m millpond_cli.bench.bare_faust --bootstrap 127.0.0.1:19092 --source A --target B --agent plain

plain: as Faust's documents write an agent, which acknowledges by itself and may lose records.
noack_take: acknowledges what the broker has acknowledged, as a router must that loses none, in the router's batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, cast

import faust
from faust.types import EventT

BATCH, WITHIN_S = 64, 0.01
"""As the router takes its batches by default."""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--bootstrap", "--source", "--target"):
        parser.add_argument(name, required=True)
    parser.add_argument("--group", default="bare-faust")
    parser.add_argument("--agent", choices=("plain", "noack_take"), default="plain")
    given = parser.parse_args()
    app = faust.App(
        given.group,
        broker=f"kafka://{given.bootstrap}",
        store="memory://",
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
    )
    source = app.topic(given.source, key_serializer="raw", value_serializer="raw")
    target = app.topic(given.target, key_serializer="raw", value_serializer="raw")

    async def plain(stream: Any) -> None:
        async for event in stream.events():
            await target.send(key=event.key, value=event.value)

    async def noack_take(stream: Any) -> None:
        events: Sequence[EventT[bytes]]
        async for events in stream.noack_take(BATCH, within=WITHIN_S):
            sends = [await target.send(key=event.key, value=event.value) for event in events]
            for sent in sends:
                await sent
            for event in events:
                event.ack()

    app.agent(source, name=given.agent)(cast(Any, {"plain": plain, "noack_take": noack_take}[given.agent]))
    sys.argv = ["bare-faust", "worker", "--loglevel", "error", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
