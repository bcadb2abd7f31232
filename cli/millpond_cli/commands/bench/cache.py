"""`./millpond bench cache`"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from millpond_cache.cacheable import shipped_head
from millpond_cli import stack
from millpond_cli.bench.cache import entries, rival
from millpond_cli.bench.cache.entries import CHUNK, Texts
from millpond_cli.bench.cache.measured import AT_ONCE, POLL, Measured
from millpond_cli.bench.cache.rival import GptCacheMeasured
from millpond_cli.commands.options import PortBase
from millpond_cli.demo import docstrings
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import percentile, show_targets, target, writable, write
from millpond_cli.offline_models import embed
from millpond_cli.setup.home import Home, home
from millpond_cli.setup.pieces import GPTCACHE, MILVUS, MODEL_FILES, MODELS
from millpond_cli.setup.progress import Report, shown
from millpond_cli.setup.set_up import set_up
from millpond_cli.stack import Stack

if TYPE_CHECKING:
    from millpond_cli.bench.cache.pond import Pond

SIZES = "10000,100000,1000000"

BASE = 5000
"""Texts that are embedded: the standard library's docstrings. The other entries are made of them (entries.py)."""

MOST_CHARACTERS = 200

ASKED = 1000
"""Questions at each size; half of them are asked one after another, and all of them together."""

K = 5

GPTCACHE_MOST = 100_000
"""Entries up to which GPTCache is measured too: its Faiss index compares every entry, and a million take it minutes."""

EXACT_P99_MS, SEMANTIC_P99_MS, SEMANTIC_AT, TIMES_GPTCACHE = 3.0, 25.0, 100_000, 5.0


def cache(
    sizes: Annotated[str, typer.Option(metavar="N,…", help=f"Entries, in steps of {CHUNK:,}.")] = SIZES,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
) -> None:
    """Measure the cache's look-ups in a real Milvus, beside GPTCache over the same entries.

    The embedding is not measured. Sets up what is missing, and starts a Milvus and a Triton for itself.
    """
    writable(json_file)
    counts = counts_of(sizes)
    place = home()
    with shown() as report:
        set_up(place, (MILVUS, MODELS, MODEL_FILES, GPTCACHE), report)
        base, version = base_texts(place, report)
    with (
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder,
        Stack(place.root, port_base, only={"milvus", "triton"}, run=Path(folder)) as running,
    ):
        pond = (running.addresses.milvus, running.addresses.triton, version)
        measured = asyncio.run(measure_all(place, pond, base, counts))
    targets = targets_of(measured)
    console = Console()
    console.print(table(measured))
    show_targets(console, targets)
    write(
        json_file,
        {
            "how": f"{len(base.texts)} docstrings embedded by the served embedder, and entries made of them with noise "
            f"and another ending; one partition; {ASKED} questions, {POLL} in a call and {AT_ONCE} calls at a time for "
            "look-ups a second; what could be a hit by meaning is verified by Triton; GPTCache with SQLite and Faiss, "
            "which verifies nothing, alone and with two threads, the better of them",
            "k": K,
            "sizes": {str(count): figures for count, figures in measured.items()},
            "targets": targets,
            "environment": environment(place),
        },
    )


def counts_of(sizes: str) -> list[int]:
    """Raises CommandError."""
    try:
        counts = sorted({int(each) for each in sizes.split(",")})
    except ValueError:
        counts = [0]
    if any(count <= 0 or count % CHUNK for count in counts):
        raise CommandError(f"--sizes {sizes}: whole numbers of {CHUNK:,}, with commas between them")
    return counts


def base_texts(place: Home, report: Report) -> tuple[Texts, str]:
    """First paragraphs whose answers may be given again, and the embedder's version."""
    found = docstrings.texts(docstrings.standard_library())
    paragraphs = (" ".join(docstrings.first_paragraph(text.docstring).split()) for text in found)
    short = (text.rstrip(".") for text in paragraphs if len(text) <= MOST_CHARACTERS)
    texts = list(islice(dict.fromkeys(short), BASE))
    embedded = embed(place, texts, report)
    head = shipped_head()
    allowed = [
        at
        for at, (text, vector) in enumerate(zip(texts, embedded.values, strict=True))
        if all(head.allows(said, vector, embedded.version) for said in (text, f"{text}, please"))
    ]
    return Texts([texts[at] for at in allowed], embedded.values[allowed]), embedded.version


async def measure_all(
    place: Home, where: tuple[str, str, str], base: Texts, counts: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """where: Milvus, Triton, the embedder's version. For each size its figures."""
    # Milvus's client takes seconds to import, which every other command would wait for.
    from millpond_cli.bench.cache.pond import Pond

    pond = Pond(*where, K)
    measured: dict[int, dict[str, Any]] = {}
    texts: list[str] = []
    vectors = np.zeros((0, base.vectors.shape[1]), dtype=np.float32)
    try:
        await pond.prepare()
        for count in counts:
            for number in range(len(texts) // CHUNK, count // CHUNK):
                more = entries.part(base, number)
                await pond.learn(more)
                texts += more.texts
                vectors = np.concatenate([vectors, more.vectors])
            print(f"{count:,} entries: waiting for Milvus's index", flush=True)
            await pond.indexed()
            measured[count] = await _measure(place, pond, Texts(texts, vectors))
    finally:
        await pond.close()
    return measured


async def _measure(place: Home, pond: Pond, cached: Texts) -> dict[str, Any]:
    chance = np.random.default_rng([entries.SEED, len(cached.texts)])
    chosen = chance.choice(len(cached.texts), ASKED, replace=False)
    places: list[int] = chosen.tolist()
    some = Texts([cached.texts[at] for at in places], cached.vectors[chosen])
    asked = entries.asked_for(some, chance)
    print("   exact and semantic look-ups", flush=True)
    exact, semantic = await pond.measure(some), await pond.measure(asked)
    true = entries.nearest(cached.vectors, asked.vectors, K)
    found = await pond.nearest(asked)
    recall = np.mean(
        [len(said & {cached.texts[at] for at in right}) / K for said, right in zip(found, true.tolist(), strict=True)]
    )
    figures = {"exact": shown_of(exact), "semantic": shown_of(semantic), "index_recall": round(float(recall), 4)}
    if len(cached.texts) <= GPTCACHE_MOST:
        print("   GPTCache", flush=True)
        other = await asyncio.to_thread(rival.measure, place, cached, asked, K)
        figures["gptcache"] = shown_of(other)
        figures["times_gptcache"] = round(semantic.per_s / other.best_per_s, 2)
    return figures


def shown_of(measured: Measured | GptCacheMeasured) -> dict[str, Any]:
    of_all = quantiles(measured.milliseconds)
    if isinstance(measured, Measured):
        shown: dict[str, Any] = {**of_all, "per_s": round(measured.per_s, 1), "reasons": measured.reasons}
        if some := measured.verified_ms:
            shown["verified"] = {"lookups": len(some), **quantiles(some)}
        return shown
    by_threads = {name: round(rate, 1) for name, rate in measured.per_s.items()}
    return {**of_all, "per_s": round(measured.best_per_s, 1), "by_threads": by_threads, "found": measured.found}


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {f"p{share}_ms": round(percentile(milliseconds, share / 100), 2) for share in (50, 99)}


def targets_of(measured: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    for count, each in measured.items():
        figures.append(target(f"exact p99, {count:,} entries", each["exact"]["p99_ms"], "ms", EXACT_P99_MS, "lower"))
        if count == SEMANTIC_AT:
            verified = each["semantic"].get("verified", each["semantic"])
            name = f"semantic with verifier p99, {count:,} entries"
            figures.append(target(name, verified["p99_ms"], "ms", SEMANTIC_P99_MS, "lower"))
        if "times_gptcache" in each:
            name = f"semantic of GPTCache's look-ups a second, {count:,} entries"
            figures.append(target(name, each["times_gptcache"], "times", TIMES_GPTCACHE, "higher"))
    return figures


def table(measured: Mapping[int, Mapping[str, Any]]) -> Table:
    shown = Table("entries", "look-up", "p50 ms", "p99 ms", "per s", "index recall", box=None, pad_edge=False)
    for count, figures in measured.items():
        for name in ("exact", "semantic", "gptcache"):
            if each := figures.get(name):
                recall = f"{figures['index_recall']:.3f}" if name == "semantic" else ""
                rates = (f"{each['p50_ms']:.1f}", f"{each['p99_ms']:.1f}", f"{each['per_s']:,.0f}")
                shown.add_row(f"{count:,}", name, *rates, recall)
    return shown
