"""Trains the verifier: low-rank changes to all-MiniLM-L6-v2 that make it read two questions at once.

    python training/cache/train.py --pairs DIR… --embedder DIR --out DIR [--take 60000] [--learning-rate 6e-4]

The encoder's matrices stay as they are; what is learned is one low-rank matrix pair beside each, and the head. So what
is committed is about a megabyte, and the rest is the checkpoint that a set-up installs for the embedder anyway.
Source: LoRA (Hu et al. 2021); a cross-encoder as in Reimers and Gurevych 2019, trained with sentence-transformers.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

SEED = 20261124

RANK = 24
"""Of each change: 1.0 million numbers in all, a megabyte at eight bits."""

BATCH = 32

BATCHES_SORTED = 50
"""Batches among which pairs of like length are put together."""

READS_TOKENS = 96
"""Of both texts, in training."""

MAX_CHARACTERS = 220
"""Of both texts: nine pairs in ten are shorter, and the others would take half of the time."""

WEIGHTS = {"quora": 1.0, "quora changed": 0.7, "banking": 1.0, "clinc": 0.6, "everyday": 0.3, "health": 0.5,
           "investing": 0.5, "banking changed": 1.0, "clinc changed": 0.6}  # fmt: skip
"""Share of each set's pairs that is taken, before --take bounds the whole."""


def pairs(paths: Sequence[Path], take: int) -> Dataset:
    chance = random.Random(SEED)
    rows: list[dict[str, Any]] = [json.loads(line) for path in paths for line in path.open()]
    chosen = [
        row for row in rows if chance.random() < WEIGHTS[row["set"]] and len(row["a"]) + len(row["b"]) <= MAX_CHARACTERS
    ][:take]
    for row in chosen:
        # Which of the two is cached says nothing.
        if chance.random() < 0.5:
            row["a"], row["b"] = row["b"], row["a"]
    chosen = of_like_length(chosen, chance)
    return Dataset.from_dict(
        {
            "a": [row["a"] for row in chosen],
            "b": [row["b"] for row in chosen],
            "label": [float(row["same"]) for row in chosen],
        }
    )


def of_like_length(rows: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The rows in such an order that those of a batch are about as long: padding would take half of the time."""
    ordered: list[dict[str, Any]] = []
    for first in range(0, len(rows), BATCH * BATCHES_SORTED):
        near = sorted(rows[first : first + BATCH * BATCHES_SORTED], key=lambda row: len(row["a"]) + len(row["b"]))
        batches = [near[place : place + BATCH] for place in range(0, len(near), BATCH)]
        chance.shuffle(batches)
        ordered += [row for batch in batches for row in batch]
    return ordered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, nargs="+", help="folders that pairs.py filled, in turn")
    parser.add_argument("--embedder", type=Path, required=True, help="the folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--take", type=int, default=60_000, help="pairs to train on")
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    model = CrossEncoder(str(arguments.embedder), num_labels=1, max_length=READS_TOKENS, local_files_only=True)
    model.add_adapter(
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules=["query", "key", "value", "dense"],
            modules_to_save=["classifier"],
        )
    )
    data = pairs([each / "train.jsonl" for each in arguments.pairs], arguments.take)
    print(f"{len(data)} pairs", flush=True)
    settings = CrossEncoderTrainingArguments(
        output_dir=str(arguments.out / "checkpoints"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=60,
        weight_decay=0.01,
        train_sampling_strategy="sequential",
        bf16=True,
        use_cpu=True,
        dataloader_num_workers=0,
        logging_steps=10,
        save_steps=100,
        save_total_limit=2,
        report_to="none",
        seed=SEED,
        disable_tqdm=True,
    )
    trainer = CrossEncoderTrainer(model=model, args=settings, train_dataset=data, loss=BinaryCrossEntropyLoss(model))
    trainer.train()
    model.save_pretrained(str(arguments.out / "adapter"))


if __name__ == "__main__":
    main()
