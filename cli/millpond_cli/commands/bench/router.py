"""`./millpond bench router`"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from millpond_cli import metrics_page, stack
from millpond_cli.commands.eval.router import table
from millpond_cli.commands.options import Config, PortBase, existing
from millpond_cli.demo import docstrings
from millpond_cli.embedding import embed
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.here import configuration, settings_of
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.pieces import KAFKA, MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report, shown
from millpond_cli.setup.set_up import set_up
from millpond_core import topics
from millpond_core.settings import FILE_VARIABLE, Settings, load

TEXTS = 1000
"""Different ones, of the standard library's docstrings: about 60 tokens each."""

DECISION_P99_MS, REQUESTS_PER_S, WARM_UP = 1.0, 400.0, 200

SOURCE, TARGET = "bench.source", "bench.target"


def router(
    requests: Annotated[int, typer.Option(min=100, metavar="N", help="How many pass through the router.")] = 4000,
    alone: Annotated[bool, typer.Option("--alone", help="Only a decision, in this process; starts nothing.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
    config: Config = None,
) -> None:
    """Measure a decision alone, and requests through Kafka, the embedder and the router, beside a bare Faust agent.

    Starts Kafka, Triton and the router for itself.
    """
    existing(config)
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise CommandError(f"--json {json_file}: there is no such folder")
    os.environ[FILE_VARIABLE] = str(configuration(config))
    place = home()
    texts = [text.docstring for text in islice(docstrings.texts(docstrings.standard_library()), TEXTS)]
    with shown() as report:
        figures: dict[str, Any] = {"decision": decisions(place, texts, report)}
        if not alone:
            set_up(place, (KAFKA, MODELS, MODEL_FILES), report)
            figures |= through_kafka(place, texts, requests, port_base=port_base, config=config, report=report)
    figures |= {"targets": targets(figures), "environment": environment(place)}
    Console().print(table(figures), highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def decisions(place: Home, texts: Sequence[str], report: Report) -> dict[str, Any]:
    from millpond_cli.bench.decisions import BATCH, Decider, times_ms
    from millpond_router import head_folder
    from millpond_router import rules as rule_files
    from millpond_router.brain import Brain
    from millpond_router.decide import policy_of
    from millpond_router.settings import RouterSettings

    settings = load(RouterSettings, "millpond")
    policy = policy_of(settings, settings.router.quality)
    rules = rule_files.load(settings.router.rules or rule_files.SHIPPED, policy.targets)
    resembled = {target.resembles for target in policy.models if target.resembles}
    brain = Brain(settings.router.heads or head_folder.SHIPPED, models=resembled)
    brain.look()
    began = time.monotonic()
    vectors = embed(place, texts, report)
    engine_s = time.monotonic() - began
    decider = Decider(rules, policy, brain)
    alone = times_ms(decider, texts, vectors.values, vectors.version, 1)
    together = times_ms(decider, texts, vectors.values, vectors.version, BATCH) / BATCH
    return {
        "heads": brain.heads.version if brain.heads else None,
        "alone_p50_ms": round(float(np.percentile(alone, 50)), 3),
        "alone_p99_ms": round(float(np.percentile(alone, 99)), 3),
        "in_batches_p50_ms": round(float(np.percentile(together, 50)), 3),
        "in_batches_p99_ms": round(float(np.percentile(together, 99)), 3),
        "engine_with_its_start_per_s": round(len(texts) / engine_s, 1),
    }


def through_kafka(
    place: Home, texts: Sequence[str], requests: int, *, port_base: int, config: Path | None, report: Report
) -> dict[str, Any]:
    from millpond_cli.bench.throughput import Passage, make_topics

    only = {"kafka", "topics", "triton", "router"}
    figures: dict[str, Any] = {}
    with stack.Stack(place.root, port_base, only=only, config=config, report=report) as running:
        settings = settings_of(running.addresses, config)
        figures["embedder_alone_per_s"] = round(asyncio.run(_embedder_rate(settings, texts)), 1)
        bodies = [_body(text, number) for number, text in enumerate(islice(cycle(texts), requests + WARM_UP))]
        passage = Passage(settings, topics.REQUESTS, topics.ROUTED)
        try:
            passage.rate(bodies[:WARM_UP])
            before = metrics_page.read([running.addresses.triton_metrics])
            figures["router_per_s"] = round(passage.rate(bodies[WARM_UP:]), 1)
            after = metrics_page.read([running.addresses.triton_metrics]) - before
            calls = after.total("nv_inference_exec_count", model="embedder")
            rows = after.total("nv_inference_count", model="embedder")
            figures["embedder_rows_per_batch"] = round(rows / calls, 1) if calls else None
            figures["embedded_share"] = round(rows / requests, 3)
        finally:
            passage.close()
        make_topics(settings, SOURCE, TARGET)
        with _bare_faust(settings):
            bare = Passage(settings, SOURCE, TARGET)
            try:
                bare.rate(bodies[:WARM_UP])
                figures["bare_faust_per_s"] = round(bare.rate(bodies[WARM_UP:]), 1)
            finally:
                bare.close()
    return figures


def _body(text: str, number: int) -> bytes:
    # No two are the same: what is asked again would be embedded only once in a batch.
    return json.dumps({"messages": [{"role": "user", "content": f"{text} ({number})"}], "tier": "overnight"}).encode()


async def _embedder_rate(settings: Settings, texts: Sequence[str]) -> float:
    """Texts a second, asked for 32 at a time, with two calls under way."""
    from millpond_core.embedder import Embedder

    embedder = Embedder(settings.triton, 60)
    parts = [texts[first : first + 32] for first in range(0, len(texts), 32)]
    await embedder.embed(parts[0])
    turns = asyncio.Semaphore(2)

    async def ask(part: Sequence[str]) -> None:
        async with turns:
            await embedder.embed(part)

    began = time.monotonic()
    try:
        await asyncio.gather(*map(ask, parts))
    finally:
        await embedder.close()
    return len(texts) / (time.monotonic() - began)


@contextmanager
def _bare_faust(settings: Settings) -> Generator[None]:
    where = ("--bootstrap", settings.kafka_bootstrap, "--source", SOURCE, "--target", TARGET)
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond_cli.bench.bare_faust", *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = [
        {
            "name": "decision beyond the embedding, p99",
            "value": figures["decision"]["alone_p99_ms"],
            "unit": "ms",
            "bound": DECISION_P99_MS,
            "better": "lower",
        }
    ]
    if "router_per_s" in figures:
        found.append(
            {
                "name": "requests end to end",
                "value": figures["router_per_s"],
                "unit": "1/s",
                "bound": REQUESTS_PER_S,
                "better": "higher",
            }
        )
    return found
