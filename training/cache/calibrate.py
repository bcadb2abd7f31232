"""Fits the head that makes one probability of all signs, and the table that makes thresholds of error budgets.

    python training/cache/calibrate.py --pairs DIR --models-python PYTHON --assets DIR

The head is fitted on fit.jsonl, which the verifier has not seen, the table made from calibrate.jsonl; test.jsonl is only
looked at by `./millpond eval cache`. Writes agreement.json and calibration.json into
services/cache/millpond_cache/heads.
"""
# ruff: noqa: E501

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from offline import Models
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from train import SEED, WEIGHTS

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / each) for each in ("services/cache", "core", "proto/python")]

from millpond_cache.agreement import AGREEMENT, features, shipped_agreement
from millpond_cache.budget import CALIBRATION, Calibration
from millpond_cache.cacheable import shipped_head
from millpond_cache.guard import disagreement

TREES = 200

DEPTH = 4

GROUPS = {"quora": "quora"}
"""Which sets are held to the budget by themselves; all others are "made" here, from frames, intents and changes."""

OBJECTING = frozenset({"quora"})
"""Whose labels are wrong too often to vouch for a small budget."""

THRESHOLDS = np.round(1 - np.geomspace(0.0005, 0.6, 240), 5)


def signals(rows: list[dict[str, Any]], models: Models) -> NDArray[np.float64]:
    """Features, float64 [rows, features]."""
    texts = sorted({row[side] for row in rows for side in "ab"})
    place = {text: at for at, text in enumerate(texts)}
    vectors = models.embed(texts)
    logits = models.score([(row["a"], row["b"]) for row in rows])
    cosines = [float(vectors[place[row["a"]]] @ vectors[place[row["b"]]]) for row in rows]
    return np.array(
        [
            features(row["a"], row["b"], cosine, float(logit))
            for row, cosine, logit in zip(rows, cosines, logits, strict=True)
        ]
    )


def tree(nodes: NDArray[Any]) -> dict[str, list[float]]:
    """A fitted tree as millpond_cache.agreement.Tree wants it."""
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "feature": [-1 if last else int(each) for last, each in zip(leaf, nodes["feature_idx"], strict=True)],
        "threshold": [0.0 if last else float(each) for last, each in zip(leaf, nodes["num_threshold"], strict=True)],
        "left": [int(each) for each in nodes["left"]],
        "right": [int(each) for each in nodes["right"]],
        "value": [round(float(each), 5) if last else 0.0 for last, each in zip(leaf, nodes["value"], strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--models-python", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    arguments = parser.parse_args()
    models = Models(arguments.models_python, arguments.assets)
    chance = random.Random(SEED)
    rows = [json.loads(line) for line in (arguments.pairs / "fit.jsonl").open()]
    rows = [row for row in rows if chance.random() < WEIGHTS[row["set"]]]
    signs = signals(rows, models)
    fitted = HistGradientBoostingClassifier(
        max_iter=TREES, max_depth=DEPTH, learning_rate=0.06, min_samples_leaf=60, l2_regularization=5, random_state=SEED
    ).fit(signs, [row["same"] for row in rows])
    stored = {
        "embedders": [shipped_head().embedder],
        "bias": round(float(fitted._baseline_prediction.ravel()[0]), 5),
        "trees": [tree(stage[0].nodes) for stage in fitted._predictors],
    }
    trees = ",\n".join(f"  {json.dumps(each)}" for each in stored["trees"])
    AGREEMENT.write_text(
        f'{{\n "embedders": {json.dumps(stored["embedders"])},\n "bias": {stored["bias"]},\n "trees": [\n{trees}\n ]\n}}\n'
    )
    shipped_agreement.cache_clear()
    head = shipped_agreement()

    rows = [json.loads(line) for line in (arguments.pairs / "calibrate.jsonl").open()]
    signs = signals(rows, models)
    scored = head.forest.log_odds(signs)
    probabilities = 1 / (1 + np.exp(-np.clip(scored, -30, 30)))
    apart = np.abs(scored - fitted.decision_function(signs)).max()
    assert apart < 0.02, f"the trees are not those that were fitted: {apart}"
    groups: dict[str, list[tuple[float, int]]] = defaultdict(list)
    scores: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)
    for row, sign, p in zip(rows, signs, probabilities, strict=True):
        scores[row["set"]].append((p, sign[0], sign[1], row["same"]))
        if disagreement(row["a"], row["b"]) is None:
            groups[GROUPS.get(row["set"], "made")].append((float(p), row["same"]))
    table = {
        name: [
            (sum(p >= t for p, _ in pairs), sum(p >= t and not same for p, same in pairs)) for t in THRESHOLDS.tolist()
        ]
        for name, pairs in groups.items()
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(counts)}" for name, counts in sorted(table.items()))
    CALIBRATION.write_text(
        f'{{\n "thresholds": {json.dumps(THRESHOLDS.tolist())},\n "objecting": {json.dumps(sorted(OBJECTING))},\n "groups": {{\n{lines}\n }}\n}}\n'
    )
    for name, each in sorted(scores.items()):
        same = [s for *_, s in each]
        aucs = [roc_auc_score(same, [one[place] for one in each]) for place in range(3)]
        print(
            f"{name}: AUC of probability {aucs[0]:.3f}, verifier {aucs[1]:.3f}, cosine {aucs[2]:.3f}, {len(each)} pairs"
        )
    calibration = Calibration(THRESHOLDS.tolist(), table, OBJECTING)
    for budget in (0.01, 0.02, 0.05):
        threshold = calibration.threshold(budget)
        print(
            f"budget {budget}: {threshold}, by group "
            + str(
                {
                    name: Calibration(THRESHOLDS.tolist(), {name: counts}, OBJECTING).threshold(budget)
                    for name, counts in table.items()
                }
            )
        )
        for name, pairs in groups.items():
            hits = [same for p, same in pairs if p >= threshold]
            print(
                f"   {name}: {len(hits)} hits, {hits.count(0)} wrong, of {sum(s for _, s in pairs)} same and {len(pairs)}"
            )


if __name__ == "__main__":
    main()
