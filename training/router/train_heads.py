"""Fits the heads that the router ships, says what they reach on what was held back, and writes their file.

    .millpond/torch-env/bin/python training/router/train_heads.py --data FOLDER --work FOLDER \
        --models .millpond/models --target heads.npz

Needs what embed.py has kept, and scikit-learn (requirements/models-torch.txt). Figures are of texts that the heads they
are measured with had not seen: CLINC150's own validation part; for the models' answers, four parts in turn (a text's
promise comes from heads fitted to the other three). The heads that are written are then fitted to everything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("training/router", "services/router", "models")]

import offline

import data_sets
import embed
from millpond_router import evaluation, heads
from millpond_router.calibration import Calibration, calibrate, calibration_error
from millpond_router.forest import Forest
from millpond_router.intents import fit_intents
from millpond_router.lexical import BUCKETS, document_frequency, ngrams
from millpond_router.network import Fitting, Floats, Network, Target, entropy, fit, sigmoid, softmax
from millpond_router.text_features import NAMES

LEXICAL = 128
"""Numbers that a text's n-grams become."""

COMPONENTS = 40
"""Of the embedding, for the trees."""

CENTRES = 256

WORD_PROBLEMS = 1
"""Place of GSM8K among the sets: too few and too much alike for what is fitted to all sets to see how they differ."""

COUNTED = (
    *("words", "word_length", "different_words", "sentences", "numbers", "number_words", "money", "percent"),
    *("capitals", "comparisons", "each", "fractions", "slashes", "times", "totals", "sequence", "decimals", "largest"),
)
"""What the expert looks at."""

DIRECTIONS, STIFFNESS = 5, 0.01
"""Of the embeddings, for the expert, and the inverse of its regularisation: chosen by parts of the 664 questions, as
every other figure of this file was."""

FOLDS = 4

DOMAINS = Fitting(
    hidden=512, members=2, epochs=25, rows=256, rate=1.5e-3, decay=1e-2, dropped=(0.2, 0.5), smoothing=0.05
)
QUALITY = Fitting(hidden=96, members=6, epochs=15, rows=256, rate=1.5e-3, decay=3e-3, dropped=(0.1, 0.4), smoothing=0)

TREES: dict[str, Any] = {
    "max_iter": 150,
    "learning_rate": 0.05,
    "max_leaf_nodes": 16,
    "l2_regularization": 5,
    "min_samples_leaf": 40,
    "max_features": 0.2,
    "random_state": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="The folder that models/prepare.py filled.")
    parser.add_argument("--encoder", default="embedder", help="Whose vectors, by its name in Triton.")
    parser.add_argument("--number", default="1", help="Of the heads, in their version.")
    given = parser.parse_args()
    dialogue, support = data_sets.clinc150(given.data), data_sets.banking77(given.data)
    sets = [data_sets.mmlu(given.data), data_sets.gsm8k(given.data), data_sets.nine_models(given.data)]
    texts = [dialogue.texts, support.texts, *(each.texts for each in sets)]
    encoder = offline.version_of(given.encoder, given.models)
    vectors = [embed.vectors(given.work, encoder, each) for each in texts]
    inputs = fit_inputs(texts, vectors)
    seen = [inputs.seen(v, t) for v, t in zip(vectors, texts, strict=True)]
    say("inputs")
    domain_of = data_sets.clinc150_domains(given.data)
    figures: dict[str, Any] = {"encoder": encoder, "banking77_held_back": intents_of_ones_own(support, vectors[1])}
    network, temperature, line, labels = fit_domains(
        dialogue, vectors[0], inputs.of_network(seen[0]), domain_of, figures
    )
    quality = Quality(sets, inputs, seen[2:])
    quality.also("command", inputs.of_network(seen[0]))
    quality.also("support", inputs.of_network(seen[1]))
    calibrations = quality.held_back(figures)
    whole, trees, expert = quality.fit(np.arange(quality.rows))
    made = heads.Heads(
        version="",
        embedder=encoder,
        labels=heads.Labels(
            intents=labels[0],
            domains=labels[1],
            domain_of=labels[2],
            subjects=quality.subjects,
            fields=data_sets.FIELDS,
            field_of=tuple(data_sets.FIELDS.index(data_sets.field_of(each)) for each in quality.subjects),
            tasks=data_sets.TASKS,
            models=quality.models,
        ),
        inputs=inputs,
        domains=network,
        quality=whole,
        trees=trees,
        expert=expert,
        temperature=temperature,
        calibrations=calibrations,
        scope=scope_of(np.concatenate(vectors), line, intent_means(dialogue, vectors[0], labels[0])),
    )
    version = heads.write(made, given.number, given.target, {"figures": figures})
    print(json.dumps({"version": version, "bytes": given.target.stat().st_size, **figures}, indent=2))
    # What is read again must say the same to within its rounding.
    again = heads.read(given.target)
    one, other = made.ask(vectors[2][:64], texts[2][:64]), again.ask(vectors[2][:64], texts[2][:64])
    print("rounding moves a promise by at most", float(np.abs(one.quality - other.quality).max()))


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def fit_inputs(texts: Sequence[Sequence[str]], vectors: Sequence[Floats]) -> heads.Inputs:
    """The n-grams' table by truncated SVD (latent semantic analysis, Deerwester et al. 1990)."""
    every = [text for part in texts for text in part]
    weights = document_frequency(every)
    rows = [ngrams(text) for text in every]
    ends = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    values = np.concatenate([often for _, often in rows])
    matrix = sparse.csr_matrix((values, np.concatenate([buckets for buckets, _ in rows]), ends), (len(rows), BUCKETS))
    matrix = matrix.multiply(weights).tocsr()
    lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1).A1) + 1e-9
    table = TruncatedSVD(LEXICAL, random_state=0, n_iter=4).fit(sparse.diags(1 / lengths) @ matrix).components_.T
    scale = (np.abs(table).max(axis=0) / 127).astype(np.float32)
    whole = np.concatenate(vectors[2:])
    components = np.linalg.svd(whole - whole.mean(0), full_matrices=False)[2][:COMPONENTS].T
    small = heads.Inputs(
        weights.astype(np.float16).astype(np.float32),
        np.round(table / scale).astype(np.int8),
        scale,
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        components.astype(np.float16).astype(np.float32),
    )
    # Every set has the same say in what is usual, whatever its size.
    usual = [small.seen(v[:2000], t[:2000]).counts for v, t in zip(vectors, texts, strict=True)]
    counts = np.concatenate(usual)
    return replace(small, mean=counts.mean(0), spread=counts.std(0) + np.float32(0.05))


def intents_of_ones_own(support: data_sets.Dialogue, vectors: Floats) -> float:
    """Accuracy on BANKING77's texts that are held back, as `./millpond eval router --task intent --fit` learns them."""
    known, held = data_sets.support_split(support)
    learned = fit_intents(vectors[known], [support.intents[row] for row in known])
    said = learned.says(vectors[held]).chances.argmax(axis=1)
    right = [learned.labels[label] == support.intents[row] for label, row in zip(said, held, strict=True)]
    return round(float(np.mean(right)), 4)


def fit_domains(
    dialogue: data_sets.Dialogue, vectors: Floats, inputs: Floats, domain_of: dict[str, str], figures: dict[str, Any]
) -> tuple[Network, float, tuple[float, float, float], tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]]:
    """(network, temperature, the scope's line, (intents, domains, the domain of each intent))."""
    intents, domains = tuple(sorted(domain_of)), tuple(sorted(set(domain_of.values())))
    place_of = tuple(domains.index(domain_of[intent]) for intent in intents)
    splits = np.array(dialogue.splits)
    inside = np.array([intent != data_sets.BEYOND for intent in dialogue.intents])
    label = np.array([intents.index(each) if each in domain_of else 0 for each in dialogue.intents])
    wanted = np.eye(len(intents), dtype=np.float32)[label]
    train, held = splits == "train", splits == "val"
    network = fit(inputs[train], [Target(wanted[train], one_of=True)], DOMAINS)
    (logits,) = network.logits(inputs)
    temperature = min(
        np.geomspace(0.2, 3, 60),
        key=lambda t: -np.log(softmax(logits[held] / np.float32(t))[np.arange(held.sum()), label[held]] + 1e-12).mean(),
    )
    chances = softmax(logits / np.float32(temperature))
    sums = np.zeros((len(intents), len(domains)), np.float32)
    sums[np.arange(len(intents)), list(place_of)] = 1
    of_domain = chances @ sums
    right = of_domain[held].argmax(1) == np.array(place_of)[label[held]]
    judged = held | ~inside
    means = means_of(vectors[train], label[train])
    strange = np.stack([entropy(chances), (vectors @ means.T).max(axis=1)], axis=1)
    line = LogisticRegression(class_weight="balanced", C=100).fit(strange[judged], ~inside[judged])
    figures["clinc150_validation"] = {
        "domain_accuracy": round(float(right.mean()), 4),
        "intent_accuracy": round(float((chances[held].argmax(1) == label[held]).mean()), 4),
        "out_of_scope_auroc": round(float(roc_auc_score(~inside[judged], line.decision_function(strange[judged]))), 4),
        "domain_ece": round(calibration_error(of_domain[held].max(1), right.astype(float)), 4),
    }
    say(json.dumps(figures))
    final = fit(inputs[inside], [Target(wanted[inside], one_of=True)], DOMAINS)
    weights = (*map(float, line.coef_[0]), float(line.intercept_[0]))
    return final, float(temperature), cast(Any, weights), (intents, domains, place_of)


def means_of(vectors: Floats, labels: NDArray[np.int64]) -> Floats:
    """[labels, dimension], of L2 norm 1."""
    means = np.stack([vectors[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


class Quality:
    """Everything that is known of models' answers, as one table. Source: see data_sets."""

    def __init__(self, sets: Sequence[data_sets.Questions], inputs: heads.Inputs, seen: Sequence[heads.Seen]) -> None:
        self.models = tuple(dict.fromkeys(model for each in sets for model in each.models))
        self.subjects = tuple(sorted({subject for each in sets for subject in each.subjects if subject}))
        self.set_of = np.concatenate([np.full(len(each.texts), number) for number, each in enumerate(sets)])
        self.rows = len(self.set_of)
        self.seen = heads.Seen(
            *(np.concatenate([getattr(each, part) for each in seen]) for part in ("vectors", "lexical", "counts"))
        )
        self.dense, self.steps = inputs.of_network(self.seen), inputs.of_trees(self.seen)
        self.scores = np.full((self.rows, len(self.models)), np.nan, np.float32)
        self.subject = np.full((self.rows, len(self.subjects)), np.nan, np.float32)
        self.task = np.zeros((self.rows, len(data_sets.TASKS)), np.float32)
        known = ("multiple_choice", "mathematics", "")
        row = 0
        for number, each in enumerate(sets):
            columns = [self.models.index(model) for model in each.models]
            self.scores[np.ix_(np.arange(row, row + len(each.texts)), columns)] = each.scores
            for text, subject in zip(each.texts, each.subjects, strict=True):
                if subject:
                    self.subject[row] = 0
                    self.subject[row, self.subjects.index(subject)] = 1
                self.task[row, data_sets.TASKS.index(data_sets.task_of(text, known[number]))] = 1
                row += 1
        self.other: list[tuple[int, Floats]] = []

    def also(self, task: str, inputs: Floats) -> None:
        """Texts of which only the task is known."""
        self.other.append((data_sets.TASKS.index(task), inputs[:: max(1, len(inputs) // 2500)]))

    def fit(self, rows: NDArray[np.int64]) -> tuple[Network, Forest, heads.Expert]:
        extra = np.concatenate([inputs for _, inputs in self.other])
        tasks = np.concatenate([np.full(len(inputs), task) for task, inputs in self.other])
        unknown = np.full((len(extra), len(self.models)), np.nan, np.float32)
        no_subject = np.full((len(extra), len(self.subjects)), np.nan, np.float32)
        targets = [
            Target(np.concatenate([self.scores[rows], unknown]), one_of=False),
            Target(np.concatenate([self.task[rows], np.eye(len(data_sets.TASKS), dtype=np.float32)[tasks]]), True, 0.1),
            Target(np.concatenate([self.subject[rows], no_subject]), True, 0.3),
        ]
        network = fit(np.concatenate([self.dense[rows], extra]), targets, QUALITY)
        problems = rows[self.set_of[rows] == WORD_PROBLEMS]
        return network, forest_of(self.steps[rows], self.scores[rows]), self.expert_of(problems)

    def expert_of(self, rows: NDArray[np.int64]) -> heads.Expert:
        """rows: of one task, and with scores of the same models."""
        models = np.flatnonzero(~np.isnan(self.scores[rows[0]]))
        counts, vectors = self.seen.counts[rows], self.seen.vectors[rows]
        mean, spread = counts.mean(0), counts.std(0) + np.float32(0.05)
        used = [NAMES.index(name) for name in COUNTED]
        standard = np.clip((counts - mean) / spread, -heads.CLIPPED, heads.CLIPPED)[:, used]
        middle = vectors.mean(0)
        directions = np.linalg.svd(vectors - middle, full_matrices=False)[2][:DIRECTIONS].T
        along = (vectors - middle) @ directions
        scale = along.std(0)
        seen = np.hstack([standard, along / scale])
        lines = [
            LogisticRegression(C=STIFFNESS, max_iter=500).fit(seen, self.scores[rows, model] >= 0.5) for model in models
        ]
        weights = np.stack([line.coef_[0] for line in lines], axis=1).astype(np.float32)
        of_counts = np.zeros((len(NAMES), len(models)), np.float32)
        of_counts[used] = weights[: len(used)]
        of_vectors = (directions / scale) @ weights[len(used) :]
        bias = np.array([line.intercept_[0] for line in lines], np.float32) - middle @ of_vectors
        task = int(self.task[rows[0]].argmax())
        return heads.Expert(task, tuple(map(int, models)), mean, spread, of_counts, of_vectors, bias)

    def held_back(self, figures: dict[str, Any]) -> list[Calibration]:
        """Promises for every text by heads that had not seen it, the calibrations for them, and what they reach."""
        logits = np.zeros_like(self.scores)
        experts: list[tuple[heads.Expert, Floats]] = []
        parts = list(KFold(FOLDS, shuffle=True, random_state=0).split(self.dense))
        for number, (known, held) in enumerate(parts):
            network, trees, expert = self.fit(known)
            by_network, tasks, _ = network.logits(self.dense[held])
            logits[held] = (by_network + trees.logits(self.steps[held])) / 2
            experts.append((expert, softmax(tasks)))
            say(f"models' answers: {number + 1} of {FOLDS} parts")
        promised = sigmoid(logits)
        calibrated = np.zeros_like(promised)
        # A figure is of promises whose calibration had not seen their outcomes either.
        for (known, held), (expert, tasks) in zip(parts, experts, strict=True):
            for place, line in enumerate(self.calibrations(promised, known)):
                calibrated[held, place] = line(promised[held, place])
            seen = heads.Seen(self.seen.vectors[held], self.seen.lexical[held], self.seen.counts[held])
            calibrated[held] = expert.instead(calibrated[held], tasks, seen)
        weak, strong = self.models.index(evaluation.WEAK), self.models.index(evaluation.STRONG)
        for number, name in ((0, "routellm_mmlu"), (1, "routellm_gsm8k")):
            rows = self.set_of == number
            figures[name] = evaluation.strong_weak(
                self.scores[rows, weak], self.scores[rows, strong], calibrated[rows, weak], calibrated[rows, strong]
            )
        nine = [place for place in range(len(self.models)) if place not in (weak, strong)]
        rows = self.set_of == 2
        scores, chosen = self.scores[np.ix_(rows, nine)], calibrated[np.ix_(rows, nine)].argmax(1)
        figures["nine_models"] = {
            "mean_score": round(float(scores[np.arange(len(scores)), chosen].mean()), 4),
            "best_single": round(float(scores.mean(0).max()), 4),
            "oracle": round(float(scores.max(1).mean()), 4),
            "ece": round(calibration_error(calibrated[np.ix_(rows, nine)].ravel(), scores.ravel()), 4),
        }
        say(json.dumps(figures))
        return self.calibrations(promised, np.arange(self.rows))

    def calibrations(self, promised: Floats, rows: NDArray[np.int64]) -> list[Calibration]:
        """Of each model, by these rows, but for those that the expert speaks of."""
        rows = rows[self.set_of[rows] != WORD_PROBLEMS]
        lines: list[Calibration] = []
        for place in range(len(self.models)):
            known = rows[~np.isnan(self.scores[rows, place])]
            lines.append(calibrate(promised[known, place], self.scores[known, place], prior=1, points=15))
        return lines


def forest_of(inputs: Floats, scores: Floats) -> Forest:
    """One boosted classifier for each model, over the texts that it was seen with: is the score 0.5 or more?"""
    parts: list[list[Any]] = []
    owners: list[int] = []
    base: list[float] = []
    for place in range(scores.shape[1]):
        known = ~np.isnan(scores[:, place])
        rows, score = inputs[known], scores[known, place]
        model = HistGradientBoostingClassifier(**TREES).fit(rows, score >= 0.5)
        base.append(float(np.ravel(model._baseline_prediction)[0]))
        for (tree,) in model._predictors:
            parts.append(
                [tree.nodes[name] for name in ("feature_idx", "num_threshold", "left", "right", "value", "is_leaf")]
            )
            owners.append(place)
    wide = max(len(part[0]) for part in parts)
    shape = (len(parts), wide)
    feature, left, right = np.zeros(shape, np.int16), np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    threshold, value = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for number, (features, thresholds, lefts, rights, values, is_leaf) in enumerate(parts):
        size, leaf = len(features), is_leaf.astype(bool)
        itself = np.arange(size)
        feature[number, :size] = np.where(leaf, 0, features)
        threshold[number, :size] = np.where(leaf, 0, thresholds)
        left[number, :size] = np.where(leaf, itself, lefts)
        right[number, :size] = np.where(leaf, itself, rights)
        value[number, :size] = np.where(leaf, values, 0)
    return Forest(feature, threshold, left, right, value, np.array(owners, np.int16), np.array(base, np.float32))


def intent_means(dialogue: data_sets.Dialogue, vectors: Floats, intents: Sequence[str]) -> Floats:
    inside = [row for row, intent in enumerate(dialogue.intents) if intent != data_sets.BEYOND]
    return means_of(vectors[inside], np.array([intents.index(dialogue.intents[row]) for row in inside]))


def scope_of(vectors: Floats, line: tuple[float, float, float], intents: Floats) -> heads.Scope:
    """How near to the nearest centre the texts lie that were learned from."""
    centres = MiniBatchKMeans(CENTRES, random_state=0, n_init=1, batch_size=4096).fit(vectors).cluster_centers_
    centres = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
    nearest = (vectors @ centres.T).max(axis=1)
    return heads.Scope(line, intents, centres, np.percentile(nearest, np.arange(101)).astype(np.float32))


if __name__ == "__main__":
    main()
