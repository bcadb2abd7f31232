"""Fine-tunes the embedder's checkpoint to tell intents and subjects apart: another encoder for the router's heads.

    .millpond/torch-env/bin/python training/router/fine_tune.py --data FOLDER --checkpoint .millpond/models/embedder \
        --target RUN --sets banking77,clinc150 --epochs 3

Leaves a sentence-transformers folder, which export.py makes a Triton model of. What models answered is not learned
here, only what a text is about: heads that are fitted to the new vectors can still be measured by parts of the answers.
Learned from: BANKING77 but for the texts that data_sets.support_split holds back, CLINC150's train part, and MMLU's
subjects.

Source: a classifier by cosine to one direction for each label (Wang et al. 2018, CosFace, without its margin); the
directions begin as the means of the labels' vectors.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(REPOSITORY / "services" / "router")]

import data_sets

ROWS = 32

READS_TOKENS = 64
"""In training: intents are shorter, and of a question the opening says what it is about."""

LIKE_LENGTH = 25
"""Batches among which texts of like length are put together: padding would take half of the time."""

SHARPNESS = 20.0
"""What cosines are times before they become probabilities."""

SMOOTHING = 0.05

RATE, RATE_OF_LABELS, DECAY, WARM = 1.5e-4, 3e-3, 1e-2, 0.06
"""Of the encoder and of the labels' directions, falling in a line to nothing after a warm-up over a share WARM of all
steps; AdamW's decay."""

FROZEN = ("embeddings",)
"""Words that training has not seen keep their place among those that it has."""

SEED = 20261124


@dataclass(frozen=True)
class Labelled:
    """One set: texts, and the number of each one's label. directions: float32 [labels, dimension], learned too."""

    name: str
    texts: Sequence[str]
    labels: torch.Tensor
    directions: torch.nn.Parameter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="A sentence-transformers folder.")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--sets", default="banking77,clinc150,mmlu")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(SEED)
    model = SentenceTransformer(str(given.checkpoint), local_files_only=True, device="cpu")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name for part in FROZEN)
    sets = [labelled(model, name, *known(given.data, name)) for name in given.sets.split(",")]
    say(f"{', '.join(f'{each.name}: {len(each.texts)} texts, {len(each.directions)} labels' for each in sets)}")
    train(model, sets, given.epochs, given.checkpoint, given.target)


def known(data: Path, name: str) -> tuple[Sequence[str], Sequence[str]]:
    """(texts, their labels) that may be learned from."""
    if name == "banking77":
        support = data_sets.banking77(data)
        rows = data_sets.support_split(support)[0]
        return [support.texts[row] for row in rows], [support.intents[row] for row in rows]
    if name == "clinc150":
        dialogue = data_sets.clinc150(data)
        rows = [row for row, split in enumerate(dialogue.splits) if split == "train"]
        return [dialogue.texts[row] for row in rows], [dialogue.intents[row] for row in rows]
    if name == "mmlu":
        questions = data_sets.mmlu(data)
        return questions.texts, questions.subjects
    raise SystemExit(f"--sets {name}: must be banking77, clinc150 or mmlu")


def labelled(model: SentenceTransformer, name: str, texts: Sequence[str], labels: Sequence[str]) -> Labelled:
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    vectors = model.encode(list(texts), batch_size=ROWS, convert_to_tensor=True, normalize_embeddings=True)
    means = torch.stack([vectors[numbers == label].mean(0) for label in range(len(names))])
    return Labelled(name, texts, numbers, torch.nn.Parameter(torch.nn.functional.normalize(means).clone()))


def train(model: SentenceTransformer, sets: Sequence[Labelled], epochs: int, checkpoint: Path, target: Path) -> None:
    """A batch is of one set; sets come by chance, each as often as it has batches."""
    chance = np.random.default_rng(SEED)
    encoder = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": encoder, "lr": RATE}, {"params": [each.directions for each in sets], "lr": RATE_OF_LABELS}],
        weight_decay=DECAY,
    )
    steps = epochs * sum(-(-len(each.texts) // ROWS) for each in sets)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (WARM * steps + 1), (steps - step) / ((1 - WARM) * steps))
    )
    model.train()
    began, losses = time.monotonic(), {each.name: 0.0 for each in sets}
    step = 0
    for epoch in range(epochs):
        for each, rows in batches(sets, chance):
            tokens = model.tokenizer(
                [each.texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=READS_TOKENS,
                return_tensors="pt",
            )
            with torch.autocast("cpu", torch.bfloat16):
                vectors = model(dict(tokens))["sentence_embedding"]
            cosines = torch.nn.functional.normalize(vectors.float()) @ torch.nn.functional.normalize(each.directions).T
            loss = torch.nn.functional.cross_entropy(cosines * SHARPNESS, each.labels[rows], label_smoothing=SMOOTHING)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            step += 1
            losses[each.name] = 0.95 * losses[each.name] + 0.05 * loss.item()
            if step % 50 == 0:
                told = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
                say(f"{step} of {steps} steps, {ROWS * step / (time.monotonic() - began):.0f} texts/s, loss {told}")
        # What is there after each round can be tried while the next one runs.
        keep(model, checkpoint, target)
        say(f"round {epoch + 1} of {epochs}: {target} is written")


def keep(model: SentenceTransformer, checkpoint: Path, target: Path) -> None:
    """The checkpoint's folder with other weights: tokenizer and pooling stay as they are."""
    shutil.copytree(checkpoint, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("int8.*"))
    weights = {name: tensor.contiguous() for name, tensor in model[0].auto_model.state_dict().items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def batches(sets: Sequence[Labelled], chance: np.random.Generator) -> list[tuple[Labelled, np.ndarray]]:
    """Each text of each set once."""
    found: list[tuple[Labelled, np.ndarray]] = []
    for each in sets:
        order = chance.permutation(len(each.texts))
        for first in range(0, len(order), ROWS * LIKE_LENGTH):
            near = order[first : first + ROWS * LIKE_LENGTH]
            near = near[np.argsort([len(each.texts[row]) for row in near], kind="stable")]
            found += [(each, near[place : place + ROWS]) for place in range(0, len(near), ROWS)]
    return [found[place] for place in chance.permutation(len(found))]


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
