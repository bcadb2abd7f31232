"""How probable it is that a cached answer answers this question: one calibrated number. Pure.

A sum of small decision trees over the verifier's logit, the cosine, and what the two texts share word by word, fitted
in training/cache on pairs that the verifier was not trained on. The verifier reads meaning; the others catch where it
was not looking: a word exchanged for another, two words that changed places, another opening.

Source: gradient boosting (Friedman 2001).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millpond_cache.forest import Forest
from millpond_cache.guard import REMEMBERED, Kind, disagreements

AGREEMENT = Path(__file__).parent / "heads" / "agreement.json"

FEATURES = (
    "logit", "cosine", "shared", "covered", "unshared_least", "unshared_most", "stems_shared", "letters_shared",
    "in_order", "inversions", "substituted", "same_opening", "same_question_word", "length_ratio", "words",
    *(f"guard_{kind.value}" for kind in Kind),
)  # fmt: skip

_LOGIT = FEATURES.index("logit")

MOST_WORDS = 64
"""Words of a text that are compared in their order: longer texts are hardly one question."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")

STOP = frozenset(
    "a an the is are was were be been do does did can could should would will i you he she it we they me my your his "  # noqa: SIM905
    "her its our their this that these those of in on at to for from with by about as into and or if so there any some "
    "please tell know get have has had what's i'm it's".split()
)
"""Words that name nothing."""

QUESTION_WORDS = frozenset(
    "how what which who whom whose when where why can could should would is are do does did will may must".split()  # noqa: SIM905
)

STEM = 5
"""Letters by which two forms of one word are told to be one: "invest", "investing"."""


def features(cached: str, asked: str, cosine: float, logit: float) -> NDArray[np.float64]:
    """float64 [features], in the order of FEATURES. logit: the verifier's."""
    us, them = _words(asked), _words(cached)
    ours, theirs, content, other = us.all, them.all, us.content, them.content
    apart = sorted((len(content - other), len(other - content)))
    most, least = max(len(content), len(other)), min(len(content), len(other))
    told = disagreements(cached, asked)
    return np.array(
        [
            logit,
            cosine,
            _share(content, other),
            len(content & other) / max(least, 1),
            apart[0],
            apart[1],
            _share(us.stems, them.stems),
            _share(us.trigrams, them.trigrams),
            _in_order(ours[:MOST_WORDS], theirs[:MOST_WORDS]),
            _inversions(us.places, them.places),
            float(apart == [1, 1]),
            float(ours[:1] == theirs[:1]),
            float(us.question == them.question),
            least / max(most, 1),
            most,
            *(float(kind in told) for kind in Kind),
        ],
        dtype=np.float64,
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """What a text brings to every comparison. content: words that name something; places: of those of its first
    MOST_WORDS that it has once, in their order.
    """

    all: Sequence[str]
    content: frozenset[str]
    stems: frozenset[str]
    trigrams: frozenset[str]
    places: Mapping[str, int]
    question: str


@lru_cache(REMEMBERED)
def _words(text: str) -> _Words:
    words = _WORD.findall(text.lower().replace("’", "'"))
    content = frozenset(words) - STOP
    joined = " ".join(words)
    first = words[:MOST_WORDS]
    counts = Counter(first)
    return _Words(
        words,
        content,
        frozenset(word[:STEM] for word in content),
        frozenset(joined[place : place + 3] for place in range(len(joined) - 2)),
        {word: place for place, word in enumerate(first) if counts[word] == 1 and word not in STOP},
        next((word for word in words if word in QUESTION_WORDS), ""),
    )


@dataclass(frozen=True, eq=False)
class AgreementHead:
    """embedders: versions whose cosines it was fitted on."""

    embedders: frozenset[str]
    forest: Forest

    def probability(self, cached: str, asked: str, cosine: float, logit: float) -> float:
        """That the cached question's answer answers the asked one."""
        return _probability(self.forest.log_odds(features(cached, asked, cosine, logit)[None]))

    def most_probable(self, cached: str, asked: str, cosine: float) -> float:
        """What `probability` is at most, whatever the verifier says."""
        return _probability(self.forest.most(features(cached, asked, cosine, 0.0)[None], _LOGIT))


def _probability(log_odds: NDArray[np.float64]) -> float:
    """log_odds: of one."""
    return float(1 / (1 + np.exp(-np.clip(log_odds[0], -30, 30))))


def _share(one: Set[str], other: Set[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def _in_order(one: Sequence[str], other: Sequence[str]) -> float:
    """The longest common subsequence of words, as a share of the longer text."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, theirs in enumerate(other, 1):
            above = row[place]
            row[place] = before + 1 if word == theirs else max(above, row[place - 1])
            before = above
    return row[-1] / max(len(one), len(other), 1)


def _inversions(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    """Pairs of content words that both texts have once, and that stand the other way round. Each: word → place."""
    places = [other[word] for word in one if word in other]
    return sum(first > second for first, second in combinations(places, 2))


@cache
def shipped_agreement() -> AgreementHead:
    stored = json.loads(AGREEMENT.read_text())
    return AgreementHead(
        embedders=frozenset(stored["embedders"]),
        forest=Forest.of(stored["trees"], stored["bias"]),
    )
