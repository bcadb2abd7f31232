"""GPTCache's look-ups, in an environment of its own: `python gptcache_loop.py --data FOLDER`.

The folder holds entries.npy and asked.npy (float32 [texts, dimension]) and entries.json and asked.json (their texts).
With SQLite and Faiss, as its documents begin, and with the search's distance for its judgement. The embedding is looked
up and not made. Prints {"milliseconds": [of each look-up], "per_s", "learned_per_s", "found"} as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gptcache import Cache, Config  # pyright: ignore[reportMissingImports]
from gptcache.adapter.api import get  # pyright: ignore[reportMissingImports]
from gptcache.manager import manager_factory  # pyright: ignore[reportMissingImports]
from gptcache.processor.pre import get_prompt  # pyright: ignore[reportMissingImports]
from gptcache.similarity_evaluation import SearchDistanceEvaluation  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

LEARNED_AT_ONCE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--k", type=int, required=True)
    given = parser.parse_args()
    entries, asked = (np.load(given.data / f"{name}.npy") for name in ("entries", "asked"))
    entry_texts, asked_texts = (json.loads((given.data / f"{name}.json").read_text()) for name in ("entries", "asked"))
    vector_of = dict(zip(asked_texts, asked, strict=True))
    manager = manager_factory(
        "sqlite,faiss",
        data_dir=str(given.data / "gptcache"),
        # By default it keeps a thousand entries.
        max_size=2 * len(entries),
        vector_params={"dimension": entries.shape[1], "top_k": given.k},
    )
    cache = Cache()

    def embedding(text: str, **_: Any) -> NDArray[np.float32]:
        return vector_of[text]

    def look_up(text: str) -> bool:
        return get(text, cache_obj=cache) is not None

    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=embedding,
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=0.8),
    )
    began = time.perf_counter()
    for first in range(0, len(entries), LEARNED_AT_ONCE):
        texts = entry_texts[first : first + LEARNED_AT_ONCE]
        answers = [f"The answer to: {text}" for text in texts]
        manager.import_data(texts, answers, list(entries[first : first + LEARNED_AT_ONCE]), [None] * len(texts))
    learned_s = time.perf_counter() - began
    for text in asked_texts[:20]:
        look_up(text)
    milliseconds: list[float] = []
    found = 0
    for text in asked_texts[: len(asked_texts) // 2]:
        began = time.perf_counter()
        found += look_up(text)
        milliseconds.append((time.perf_counter() - began) * 1e3)
    per_s = {"1 thread": len(milliseconds) / sum(milliseconds) * 1e3}
    try:
        with ThreadPoolExecutor(2) as pool:
            began = time.perf_counter()
            list(pool.map(look_up, asked_texts))
            per_s["2 threads"] = len(asked_texts) / (time.perf_counter() - began)
    except Exception as failure:  # what it cannot do is said, and what it can do alone counts
        print(f"with two threads: {failure}", file=sys.stderr)
    learned_per_s = len(entries) / learned_s
    print(json.dumps({"milliseconds": milliseconds, "per_s": per_s, "learned_per_s": learned_per_s, "found": found}))


if __name__ == "__main__":
    main()
