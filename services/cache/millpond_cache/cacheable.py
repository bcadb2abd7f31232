"""Whether an answer to a question may serve another asker, or the same one later. Pure.

What depends on the asker's own state ("what is my balance"), on the moment ("what's the weather"), or asks for an
action ("pay my bill") has no answer to give again. A pronoun alone says nothing: half of ordinary questions say "my".
So a head judges the whole text: a logistic regression over its embedding and a few words, trained in training/cache.
Where it has no vector that it knows, the words alone decide.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PATTERNS: tuple[tuple[str, str], ...] = (
    ("own_state", r"\b(do|did|have|am|was) i\b.*\b"
     r"(have|got|owe|spend|spent|left|due|buy|bought|earn|made|used|take)\b"),
    ("own_sum", r"\bmy (balance|current balance|bill|spending|transactions|score|account balance|order|appointments?|"
     r"calendar|schedule|to-?do list|shopping list|paycheck|income|vacation days|pto)\b"),
    ("how_much_mine", r"\bhow (much|many)\b.*\b(i|my)\b"),
    ("moment", r"\b(right now|now|currently|today|tonight|tomorrow|this (week|morning|evening|weekend)|at the moment|"
     r"latest|so far|next (week|month))\b"),
    ("order", r"^(please )?(can you |could you |would you |will you |i need you to |i want you to |go ahead and )?"
     r"(please )?(set|put|add|remove|delete|play|call|text|send|transfer|pay|book|order|cancel|schedule|remind|turn|"
     r"move|make|change|freeze|block|report|submit|request|flip|roll|start|stop|share|find|reserve|tell|switch|mark|"
     r"update)\b"),
    ("sum_of_money", r"[$€£]\s?\d|\b\d+ (dollars|euros|pounds|bucks)\b"),
    ("how", r"^(how|what is the (best )?way|what are the steps|why|what happens|can i|may i|should i|is it|"
     r"are there)\b"),
)  # fmt: skip
"""Names and patterns of what is counted beside the embedding. In small letters."""

PERSONAL = ("own_state", "own_sum", "moment", "order")
"""The patterns that decide where there is no head to weigh them. They refuse some that it would allow ("tell me a
joke"), which costs a call of the model; what they let through may be given out as somebody's balance of yesterday."""

ENDS = 200
"""Characters of a text's beginning, and as many of its end, in which it says what is wanted. What lies between is what
it is wanted of, and sooner or later says "now": no long text would ever be found again."""

_COMPILED = tuple(re.compile(pattern) for _, pattern in PATTERNS)

HEAD = Path(__file__).parent / "heads" / "cacheability.json"


@dataclass(frozen=True, eq=False)
class CacheabilityHead:
    """embedder: the version whose vectors it was trained on. weights: float32 [dimension]; signs: of PATTERNS.

    least: the probability from which a question counts as one that may be answered again.
    """

    embedder: str
    weights: NDArray[np.float32]
    signs: NDArray[np.float32]
    bias: float
    least: float

    def probability(self, text: str, vector: NDArray[np.float32]) -> float:
        """That the answer may be given again. vector: of L2 norm 1, by the embedder of this head."""
        logit = float(self.weights @ vector) + float(self.signs @ signs_of(text)) + self.bias
        return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))

    def judged(self, text: str, vector: NDArray[np.float32] | None, embedder: str) -> float | None:
        """The same; None for what it cannot judge, without a vector or by another embedder's."""
        return None if vector is None or embedder != self.embedder else self.probability(text, vector)

    def allows(self, text: str, vector: NDArray[np.float32] | None, embedder: str) -> bool:
        """Whether the answer may be given again."""
        probability = self.judged(text, vector, embedder)
        return not sounds_personal(text) if probability is None else probability >= self.least


def signs_of(text: str) -> NDArray[np.float32]:
    """float32 [patterns]: 1 where the pattern is found."""
    low = " ".join(text.lower().split())
    return np.array([pattern.search(low) is not None for pattern in _COMPILED], dtype=np.float32)


def sounds_personal(text: str) -> bool:
    """Whether its words alone are those of a question about the asker or the moment, or of an order."""
    asked = text.strip()
    if len(asked) > 2 * ENDS:
        asked = f"{asked[:ENDS]} … {asked[-ENDS:]}"
    found = zip(PATTERNS, signs_of(asked), strict=True)
    return any(sign for (name, _), sign in found if name in PERSONAL)


@cache
def shipped_head() -> CacheabilityHead:
    stored = json.loads(HEAD.read_text())
    return CacheabilityHead(
        embedder=stored["embedder"],
        weights=np.array(stored["weights"], dtype=np.float32),
        signs=np.array([stored["signs"][name] for name, _ in PATTERNS], dtype=np.float32),
        bias=stored["bias"],
        least=stored["least"],
    )
