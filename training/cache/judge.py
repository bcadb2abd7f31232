"""How near two answers lie where their questions ask the same, and where they do not: for SAME in sample.py.

    python training/cache/judge.py --data DATA --triton HOST:PORT [--pairs N]

The served model answers both questions of N pairs of Quora that ask the same and of N that do not, all of them near
enough that the cache looks at them; greedy, as the judge finds them. Prints for each cosine which shares of the two it
would call wrong, and at SAME the settings `judge_sensitivity` and `judge_specificity` that follow. Questions that ask
the same stand for right hits, others for wrong ones.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from splits import parts_of

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / each) for each in ("services/batcher", "services/cache", "core", "proto/python")]

from millpond.v1 import request_pb2
from millpond_batcher.chat_prompt import ChatPrompt
from millpond_batcher.engine import Engine
from millpond_cache.sample import SAME
from millpond_core.embedder import Embedder
from millpond_core.embedding import cosine
from millpond_core.settings import ModelSettings

LOOKED_AT = 4000
"""Pairs that are embedded, to find near ones."""

NEAR = 0.85
"""Least cosine of two questions. What is farther apart is hardly ever a hit."""

ANSWER_TOKENS = 64
WINDOW = 64
PATIENCE_S = 600.0

COSINES = np.arange(0.5, 1.0, 0.05)


def pairs_of(data: Path) -> list[tuple[str, str, bool]]:
    """Those that nothing of the cache was trained on."""
    with gzip.open(data / "quora_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    parts = parts_of((row["a"], row["b"]) for row in rows)
    return [(r["a"], r["b"], bool(r["same"])) for r, part in zip(rows, parts, strict=True) if part == "calibrate"]


async def cosines_of(pairs: Sequence[tuple[str, str]], embedder: Embedder) -> NDArray[np.float64]:
    embedded = await embedder.embed([text for pair in pairs for text in pair], PATIENCE_S)
    return np.array([cosine(*embedded[first : first + 2]) for first in range(0, len(embedded), 2)])


async def answers_of(questions: Sequence[str], address: str) -> dict[str, str]:
    engine, prompt = Engine(address, "generator"), ChatPrompt(ModelSettings.model_fields["chat_template"].default)
    params = json.dumps({"temperature": 0, "max_tokens": ANSWER_TOKENS})

    async def answer(question: str) -> str:
        asked = request_pb2.Request(messages=[request_pb2.Message(role="user", content=question)])
        return (await engine.complete(prompt.render(asked), params, timeout_s=PATIENCE_S)).text

    found: dict[str, str] = {}
    for first in range(0, len(questions), WINDOW):
        window = questions[first : first + WINDOW]
        found |= zip(window, await asyncio.gather(*map(answer, window)), strict=True)
        print(f"{len(found)} of {len(questions)} answered", file=sys.stderr)
    await engine.close()
    return found


async def measure(data: Path, address: str, wanted: int) -> None:
    embedder = Embedder(address)
    chance = np.random.default_rng(7)
    every = pairs_of(data)
    labelled = [every[at] for at in chance.permutation(len(every))[:LOOKED_AT]]
    near = await cosines_of([(a, b) for a, b, _ in labelled], embedder)
    kept = [pair for pair, value in zip(labelled, near, strict=True) if value >= NEAR and pair[0] != pair[1]]
    chosen = {same: [pair[:2] for pair in kept if pair[2] == same] for same in (True, False)}
    chosen = {same: [found[at] for at in chance.permutation(len(found))[:wanted]] for same, found in chosen.items()}
    questions = sorted({text for found in chosen.values() for pair in found for text in pair})
    answers = await answers_of(questions, address)
    apart = {
        same: await cosines_of([(answers[a], answers[b]) for a, b in found], embedder) for same, found in chosen.items()
    }
    await embedder.close()
    equal = {same: np.mean([answers[a] == answers[b] for a, b in found]) for same, found in chosen.items()}
    print(f"pairs: {len(apart[True])} ask the same, {len(apart[False])} do not; answers of {ANSWER_TOKENS} tokens")
    print(f"word for word the same answer: {equal[True]:.3f} and {equal[False]:.3f}")
    print("cosine  right hits called wrong  wrong hits called wrong")
    for least in COSINES:
        print(f"{least:6.2f}  {np.mean(apart[True] < least):23.3f}  {np.mean(apart[False] < least):23.3f}")
    print(f"judge_sensitivity: {np.mean(apart[False] < SAME):.2f}")
    print(f"judge_specificity: {np.mean(apart[True] >= SAME):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--triton", required=True)
    parser.add_argument("--pairs", type=int, default=300)
    given = parser.parse_args()
    asyncio.run(measure(given.data, given.triton, given.pairs))
