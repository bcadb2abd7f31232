"""Heads of a few numbers, made up: what tests ask and write."""

from __future__ import annotations

import numpy as np

from millpond_router.calibration import AS_PROMISED
from millpond_router.forest import Forest
from millpond_router.heads import LEXICAL_OF_TREES, Expert, Heads, Inputs, Labels, Scope
from millpond_router.lexical import BUCKETS
from millpond_router.network import Network
from millpond_router.text_features import NAMES

DIMENSION = 8
LEXICAL = LEXICAL_OF_TREES
EMBEDDER = "small-embedder-1"
MODELS = ("weak", "strong")


def small_heads(seed: int = 0, version: str = "1-00000000") -> Heads:
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    wide = DIMENSION + LEXICAL + len(NAMES)
    one_tree = np.array([[0, 0, 0]], np.int16)
    return Heads(
        version=version,
        embedder=EMBEDDER,
        labels=Labels(
            intents=("transfer", "balance", "recipe"),
            domains=("banking", "kitchen"),
            domain_of=(0, 0, 1),
            subjects=("algebra", "law"),
            fields=("stem", "humanities"),
            field_of=(0, 1),
            tasks=("question", "code"),
            models=MODELS,
        ),
        inputs=Inputs(
            weights=np.ones(BUCKETS, np.float32),
            table=random.integers(-127, 127, (BUCKETS, LEXICAL)).astype(np.int8),
            scale=np.full(LEXICAL, 0.01, np.float32),
            mean=np.zeros(len(NAMES), np.float32),
            spread=np.ones(len(NAMES), np.float32),
            components=matrix(DIMENSION, 4).astype(np.float16).astype(np.float32),
        ),
        domains=Network(matrix(wide, 6), matrix(6), [(matrix(6, 3), matrix(3))]),
        quality=Network(
            matrix(wide, 6),
            matrix(6),
            [(matrix(6, 2), matrix(2)), (matrix(6, 2), matrix(2)), (matrix(6, 2), matrix(2))],
        ),
        trees=Forest(
            feature=one_tree,
            threshold=np.array([[3, 0, 0]], np.float32),
            left=np.array([[1, 1, 2]], np.int16),
            right=np.array([[2, 1, 2]], np.int16),
            value=np.array([[0, 0.5, -0.5]], np.float32),
            owner=np.array([0], np.int16),
            base=np.zeros(2, np.float32),
        ),
        expert=Expert(
            task=1,
            models=(0, 1),
            mean=np.zeros(len(NAMES), np.float32),
            spread=np.ones(len(NAMES), np.float32),
            counts=matrix(len(NAMES), 2),
            vectors=matrix(DIMENSION, 2),
            bias=matrix(2),
        ),
        temperature=1.0,
        calibrations=[AS_PROMISED, AS_PROMISED],
        scope=Scope(
            line=(1.0, -2.0, 1.0),
            intents=np.eye(DIMENSION, dtype=np.float32)[:3],
            centres=np.eye(DIMENSION, dtype=np.float32),
            distances=np.linspace(0, 1, 101).astype(np.float32),
        ),
    )


def unit(*numbers: float) -> np.ndarray:
    """[1, DIMENSION], of L2 norm 1."""
    vector = np.zeros((1, DIMENSION), np.float32)
    vector[0, : len(numbers)] = numbers or (1.0,)
    return vector / np.linalg.norm(vector)
