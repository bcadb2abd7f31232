"""The least that Faust can do: read a record, write it on. What the router's own work is measured against.

python -m millpond_cli.bench.bare_faust --bootstrap 127.0.0.1:19092 --source A --target B
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, cast

import faust


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--bootstrap", "--source", "--target"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    app = faust.App(
        "bare-faust",
        broker=f"kafka://{given.bootstrap}",
        store="memory://",
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
    )
    source = app.topic(given.source, key_serializer="raw", value_serializer="raw")
    target = app.topic(given.target, key_serializer="raw", value_serializer="raw")

    async def forward(stream: Any) -> None:
        async for event in stream.events():
            await target.send(key=event.key, value=event.value)

    app.agent(source, name="forward")(cast(Any, forward))
    sys.argv = ["bare-faust", "worker", "--loglevel", "error", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
