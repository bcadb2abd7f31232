"""Makes the pairs that the verifier is trained, calibrated and tested on.

    python training/cache/pairs.py --data DIR --embedder DIR --out DIR [--without-quora] [--seed N]

Reads `quora_pairs.jsonl.gz`, `banking77.jsonl.gz` and `clinc150.jsonl.gz` of --data; writes train.jsonl, fit.jsonl,
calibrate.jsonl and test.jsonl: {"a", "b", "same", "set", "change"}. Every part has its own components of Quora, its own
intents' texts and its own frames, by hash: nothing is seen twice.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import frames
import numpy as np
from numpy.typing import NDArray
from perturb import BREAKING, KEEPING, Change, Likeness, Names, changed
from safetensors.numpy import load_file
from splits import Part, part_of, parts_of

SEED = 20261124

FROM_ONE_TEXT = 0.45
"""Share of texts of Quora from which a pair is made."""

FRAMES: dict[Part, int] = {"train": 26_000, "fit": 3_000, "calibrate": 3_000, "test": 3_000}

FROM_INTENTS = 0.4
"""Share of the intents' texts that is used: there are many of a kind."""

INTENT_NEIGHBOURS = 24
"""Nearest texts of other intents among which a hard negative is drawn."""

SAME_INTENT_COSINE = 0.86
"""Two texts of one intent are often two questions; over this, and with no guard against it, most are one."""


@dataclass(frozen=True)
class Pair:
    a: str
    b: str
    same: int
    set: str
    change: str = ""


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def quora(data: Path) -> Iterator[tuple[Part, Pair]]:
    rows = read(data / "quora_pairs.jsonl.gz")
    for part, row in zip(parts_of((row["a"], row["b"]) for row in rows), rows, strict=True):
        yield part, Pair(row["a"], row["b"], row["same"], "quora")


def changed_pairs(
    texts: list[tuple[str, str]], name: str, breaking: tuple[tuple[Change, float], ...], chance: random.Random
) -> Iterator[Pair]:
    """texts: (one, other) that mean the same; the same text twice where no paraphrase is known.

    Half are kept the same by one or two changes, half made another question by one, with one that keeps on top.
    """
    for one, other in texts:
        text, names = other, []
        keep = chance.random() < 0.5
        if not keep:
            broken = changed(text, breaking, chance)
            if broken is None:
                continue
            text, names = broken[0], [broken[1]]
        for _ in range(chance.choice([1, 2] if keep else [0, 0, 1])):
            if kept := changed(text, KEEPING, chance):
                text, names = kept[0], [*names, kept[1]]
        if text == one:
            continue
        a, b = (one, text) if chance.random() < 0.5 else (text, one)
        yield Pair(a, b, int(keep), name, "+".join(names))


def intents(
    data: Path, embed: Callable[[list[str]], NDArray[np.float32]], chance: random.Random
) -> Iterator[tuple[Part, Pair]]:
    """Near texts of two intents, and very near ones of one."""
    rows = [(row["text"], "banking " + row["category"]) for row in read(data / "banking77.jsonl.gz")]
    rows += [
        (row["text"], "clinc " + row["intent"]) for row in read(data / "clinc150.jsonl.gz") if row["intent"] != "oos"
    ]
    for part in FRAMES:
        some = [row for row in rows if part_of(row[0]) == part and chance.random() < FROM_INTENTS]
        vectors = embed([text for text, _ in some])
        near = vectors @ vectors.T
        for place, (text, intent) in enumerate(some):
            order = np.argpartition(-near[place], INTENT_NEIGHBOURS)[:INTENT_NEIGHBOURS]
            order = order[np.argsort(-near[place, order])].tolist()
            others = [each for each in order if some[each][1] != intent]
            twins = [
                each
                for each in order
                if each != place and some[each][1] == intent and near[place, each] >= SAME_INTENT_COSINE
            ]
            source = intent.split()[0]
            if others and chance.random() < 0.8:
                yield part, Pair(text, some[chance.choice(others[:6])][0], 0, source, "other intent")
            if twins and chance.random() < 0.8:
                yield part, Pair(text, some[chance.choice(twins[:3])][0], 1, source, "same intent")


def framed(part: Part, count: int, chance: random.Random) -> Iterator[Pair]:
    made = 0
    while made < count:
        one = frames.frame(chance)
        # A frame's act on its thing belongs to one part, whatever is asked of it and when.
        if part_of(f"{one.area} {one.act} {one.thing}") != part:
            continue
        same = chance.random() < 0.5
        other = one if same else frames.other_frame(one, chance)
        a, b = frames.said(one, chance), frames.said(other, chance)
        if not same and part_of(f"{other.area} {other.act} {other.thing}") != part and part != "train":
            continue
        if a.lower() == b.lower():
            continue
        for change_it in (0, 1):
            if chance.random() < 0.2 and (kept := changed(b if change_it else a, KEEPING, chance)):
                a, b = (a, kept[0]) if change_it else (kept[0], b)
        made += 1
        yield Pair(a, b, int(same), one.area, "frame")


def embedder(folder: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(str(folder), local_files_only=True, device="cpu")

    def embed(texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False))

    return embed


def word_vectors(folder: Path) -> Callable[[str], NDArray[np.float32] | None]:
    table = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    table = table - table.mean(0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    place = {word: at for at, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
    return lambda word: table[place[word]] if word in place else None


def make(data: Path, folder: Path, seed: int, *, with_quora: bool) -> dict[Part, list[Pair]]:
    chance = random.Random(seed)
    parts: dict[Part, list[Pair]] = defaultdict(list)
    likeness = Likeness(word_vectors(folder))
    sources: dict[tuple[Part, str], list[tuple[str, str]]] = defaultdict(list)
    if with_quora:
        for part, pair in quora(data):
            parts[part].append(pair)
            if chance.random() < FROM_ONE_TEXT:
                sources[part, "quora"].append((pair.a, pair.a))
            if chance.random() < FROM_ONE_TEXT:
                # One change to a text that was said in other words: the change must be seen through them.
                sources[part, "quora"].append((pair.a, pair.b) if pair.same else (pair.b, pair.b))
    for part, pair in intents(data, embedder(folder), chance):
        parts[part].append(pair)
        if chance.random() < 0.5:
            sources[part, pair.set].append((pair.a, pair.a))
    for (part, name), texts in sources.items():
        names = Names([text for text, _ in texts])
        breaking = (*BREAKING, (names.other_name, 3.0), (likeness.words_exchanged, 30.0 if name == "quora" else 2.0))
        parts[part] += changed_pairs(texts, f"{name} changed", breaking, chance)
    for part, count in FRAMES.items():
        parts[part] += framed(part, count, chance)
    for pairs in parts.values():
        chance.shuffle(pairs)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True, help="the folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without-quora", action="store_true")
    parser.add_argument("--seed", type=int, default=SEED, help="of what is drawn and changed; the parts stay the same")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = make(arguments.data, arguments.embedder, arguments.seed, with_quora=not arguments.without_quora)
    for part, pairs in made.items():
        with (arguments.out / f"{part}.jsonl").open("w") as sink:
            sink.writelines(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
        counts = Counter((pair.set, pair.same) for pair in pairs)
        print(part, len(pairs), dict(sorted(counts.items())))


if __name__ == "__main__":
    main()
