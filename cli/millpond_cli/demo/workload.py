"""From texts and questions to requests. Pure: the same texts make the same work.

Two waves: the second asks again what the first asked, in the same words or in others, once there are answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import orjson

from millpond_cli.demo.docstrings import Text, first_paragraph
from millpond_cli.demo.questions import QUESTIONS
from millpond_core.identity import key_of

TENANTS = ("acme", "globex")

HARD = 0.03
QUESTION = 0.06
AGAIN = 0.35
"""Shares of all requests: hard ones, for the large model; questions of people who wait; and what is asked again. The
rest, more than half, are documents: three to be summarised for each two to be classified."""

SUMMARISED = 3 / 5

SUMMARY_TOKENS = 40
CLASS_TOKENS = 8
ANSWER_TOKENS = 32
EXPLANATION_TOKENS = 24
"""The longest answers: a sentence, a word, another sentence, and the beginning of an explanation."""

ASKED_BY_PEOPLE = ("question", "reworded")
"""Kinds that do not come all at once, as documents do."""

EXPLAIN = "explain"
"""The kind for the large model."""

SUMMARISE = "Summarise in one sentence: {}"
CLASSIFY = "Classify in one word: {}"
CLASSES = "The words are: files, network, numbers, text, time, processes and other."
EXPLAIN_CODE = "Explain step by step what this code does, and in which cases it fails:\n\n```python\n{}\n```"
"""Nobody names a model: the router's rules find the last of these too hard for the small one."""


@dataclass(frozen=True)
class Demand:
    """One request that is to be sent.

    name: what a person finds it by. body: the record's value. wave: 1 or 2.
    """

    name: str
    body: bytes
    key: bytes | None
    kind: str
    wave: int = 1

    @property
    def is_asked_by_a_person(self) -> bool:
        return self.kind in ASKED_BY_PEOPLE


class TooFewTexts(Exception):
    """The message says how many requests there can be."""


@dataclass(frozen=True)
class _Ask:
    """A request without its id."""

    kind: str
    tenant: str
    tier: str
    prompt: str
    max_tokens: int
    instruction: str = ""
    wordings: tuple[str, ...] = ()


def workload(texts: Iterable[Text], requests: int, run: str) -> Sequence[Demand]:
    """Exactly so many requests. run: a word in every id, so that the next run's are others.

    Raises TooFewTexts.
    """
    hard = max(1, round(requests * HARD))
    asked = min(max(1, round(requests * QUESTION)), len(QUESTIONS) * len(TENANTS))
    again = round(requests * AGAIN)
    documents = requests - hard - asked - again
    supply = iter(texts)
    first = [
        *(_document(text, number) for number, text in enumerate(islice(supply, max(0, documents)))),
        *(_question(number) for number in range(asked)),
        *(_explanation(text, number) for number, text in enumerate(islice((t for t in supply if t.code), hard))),
    ][: requests - again]
    if len(first) < requests - again:
        raise TooFewTexts(
            f"this Python's library has text for {int(len(first) / (1 - AGAIN))} requests: ask for fewer, "
            "or bring your own with --input"
        )
    numbers = count(1)
    named = [
        *((_named(ask, ask.prompt, next(numbers), run), ask.kind, 1) for ask in first),
        *((_named(ask, prompt, next(numbers), run), kind, 2) for ask, prompt, kind in _again(first, again)),
    ]
    return [_demand(body, kind, wave) for body, kind, wave in named]


def _document(text: Text, number: int) -> _Ask:
    tenant = TENANTS[number % len(TENANTS)]
    if number % 5 < SUMMARISED * 5:
        tier = "overnight" if number % 2 else "standard"
        return _Ask("summarise", tenant, tier, SUMMARISE.format(text.docstring), SUMMARY_TOKENS)
    return _Ask("classify", tenant, "standard", CLASSIFY.format(first_paragraph(text.docstring)), CLASS_TOKENS, CLASSES)


def _question(number: int) -> _Ask:
    # Both tenants ask the same: each pays for its own answer.
    tenant = TENANTS[number % len(TENANTS)]
    question, *others = QUESTIONS[number // len(TENANTS)]
    return _Ask("question", tenant, "realtime", question, ANSWER_TOKENS, wordings=tuple(others))


def _explanation(text: Text, number: int) -> _Ask:
    tenant = TENANTS[number % len(TENANTS)]
    tier = "overnight" if number % 2 else "standard"
    return _Ask(EXPLAIN, tenant, tier, EXPLAIN_CODE.format(text.code), EXPLANATION_TOKENS)


def _again(first: Sequence[_Ask], wanted: int) -> list[tuple[_Ask, str, str]]:
    """Questions in other words, then whatever was asked in the same words, as often as it takes."""
    reworded = [(ask, wording, "reworded") for ask in first for wording in ask.wordings]
    # The large model is too slow here to wait for before asking again.
    same = [(ask, ask.prompt, "repeated") for ask in first if ask.kind != EXPLAIN]
    rest = wanted - len(reworded)
    return [*reworded, *(same[number % len(same)] for number in range(rest))][:wanted]


def _named(ask: _Ask, prompt: str, number: int, run: str) -> dict[str, Any]:
    instruction = [{"role": "system", "content": ask.instruction}] if ask.instruction else []
    return {
        "id": f"{run}-{number:04}",
        "tenant": ask.tenant,
        "tier": ask.tier,
        "messages": [*instruction, {"role": "user", "content": prompt}],
        "params": {"max_tokens": ask.max_tokens, "temperature": 0},
        "metadata": {"job": ask.kind},
    }


def _demand(body: dict[str, Any], kind: str, wave: int) -> Demand:
    name = f"{body['tenant']}/{body['id']}"
    return Demand(name, orjson.dumps(body), key_of(body["tenant"], body["id"]), kind, wave)
