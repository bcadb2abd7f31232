"""The public data sets that the heads learn from, read from a folder of their own: none is part of this repository.

README.md in services/router/millpond_router/heads names their sources and licences.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millpond_router import evaluation

BEYOND = "oos"
"""CLINC150's label of what belongs to no intent."""

LEARNED_SUPPORT = 8000
"""Of BANKING77's 10,003 texts, where the rest is held back."""

TASKS = ("command", "support", "multiple_choice", "mathematics", "code", "reading", "question")

FIELDS = ("stem", "humanities", "social_sciences", "professions")

_FIELD_OF = {
    "humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "social_sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "professions": "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
    "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
}
"""Source: the categories of Hendrycks et al. 2021; what is in none of these is stem."""


@dataclass(frozen=True)
class Dialogue:
    """Short requests with an intent. CLINC150: split is train, val, oos_train or oos_val."""

    texts: Sequence[str]
    intents: Sequence[str]
    splits: Sequence[str]


@dataclass(frozen=True)
class Questions:
    """Questions, and how well each of some models answered: [questions, models], 0 to 1.

    subjects: "" where not known.
    """

    texts: Sequence[str]
    models: Sequence[str]
    scores: NDArray[np.float32]
    subjects: Sequence[str]


def clinc150(folder: Path) -> Dialogue:
    rows = _rows(folder / "clinc150.jsonl.gz")
    return Dialogue([row["text"] for row in rows], [row["intent"] for row in rows], [row["split"] for row in rows])


def clinc150_domains(folder: Path) -> dict[str, str]:
    """intent → domain."""
    domains: dict[str, list[str]] = json.loads((folder / "clinc150_domains.json").read_text())
    return {intent: domain for domain, intents in domains.items() for intent in intents}


def banking77(folder: Path) -> Dialogue:
    rows = _rows(folder / "banking77.jsonl.gz")
    return Dialogue([row["text"] for row in rows], [row["category"] for row in rows], ["train"] * len(rows))


def support_split(support: Dialogue) -> tuple[Sequence[int], Sequence[int]]:
    """BANKING77's rows that are learned from, and the last 2,003 of a random order, which are held back."""
    order = list(range(len(support.texts)))
    random.Random(0).shuffle(order)
    return order[:LEARNED_SUPPORT], order[LEARNED_SUPPORT:]


def mmlu(folder: Path) -> Questions:
    return _routellm(_rows(folder / "routellm_mmlu.jsonl.gz"))


def gsm8k(folder: Path) -> Questions:
    return _routellm(_rows(folder / "routellm_gsm8k.jsonl.gz"))


def nine_models(folder: Path) -> Questions:
    rows = _rows(folder / "uiuc_nine_models.jsonl.gz")
    models = sorted(rows[0]["scores"])
    scores = [[row["scores"][model] for model in models] for row in rows]
    return Questions([row["question"] for row in rows], models, np.array(scores, np.float32), [""] * len(rows))


def field_of(subject: str) -> str:
    return next((field for field, subjects in _FIELD_OF.items() if subject in subjects.split()), "stem")


def task_of(text: str, known: str = "") -> str:
    """A rough label, by the set that a text is from or by how it looks: nobody has labelled tasks by hand."""
    if known:
        return known
    lower = text.lower()
    if lower.startswith(("write a function", "write a python", "def ")) or "```" in text:
        return "code"
    if "$" in text or "how many" in lower or "how much" in lower or "\\" in text:
        return "mathematics"
    return "reading" if len(text) > 800 else "question"


def _routellm(rows: Sequence[dict[str, Any]]) -> Questions:
    scores = np.array([[row["weak"], row["strong"]] for row in rows], np.float32)
    return Questions(
        [row["prompt"] for row in rows],
        [evaluation.WEAK, evaluation.STRONG],
        scores,
        [row.get("subject", "") for row in rows],
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
