"""Small changes to a question: those that keep what it asks, and those that ask something else. Pure.

Each takes a text and a random generator, and gives the changed text, or None where it does not apply.
Source of the idea: contrast sets (Gardner et al. 2020), PAWS's word swaps (Zhang et al. 2019) and behavioural tests
(Ribeiro et al. 2020).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from words import AFTER, APART, BEFORE, OPENINGS, ORDER_FREE, OTHER_OPENINGS, SAME, STOP

Change = Callable[[str, random.Random], str | None]

_WORD = re.compile(r"[A-Za-z][A-Za-z'+-]*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ANY_WORD = re.compile(r"[\w'+-]+")

LONGEST_PHRASE = 8
"""Words in the longest phrase of `words`."""


def _phrases(groups: tuple[tuple[str, ...], ...]) -> dict[str, list[str]]:
    others: dict[str, list[str]] = {}
    for group in groups:
        for one in group:
            others.setdefault(one.lower(), []).extend(each for each in group if each != one)
    return others


@dataclass(frozen=True)
class _Phrases:
    """others: for a phrase in small letters what may be put in its place. opening: looked for at the beginning only."""

    others: dict[str, list[str]]
    opening: bool = False

    def replaced(self, text: str, chance: random.Random) -> str | None:
        found = self._found(text)
        if not found:
            return None
        first, last = chance.choice(found)
        new = chance.choice(self.others[text[first:last].lower()])
        if first == 0 and text[:1].isupper():
            new = new[:1].upper() + new[1:]
        return text[:first] + new + text[last:]

    def _found(self, text: str) -> list[tuple[int, int]]:
        """The longest phrase at each word."""
        words = list(_ANY_WORD.finditer(text))
        found: list[tuple[int, int]] = []
        for place, word in enumerate(words[:1] if self.opening else words):
            for last in reversed(words[place : place + LONGEST_PHRASE]):
                if text[word.start() : last.end()].lower() in self.others:
                    found.append((word.start(), last.end()))
                    break
        return found


_SAME = _Phrases(_phrases(SAME))
_APART = _Phrases(_phrases(APART))
_OPENINGS = _Phrases(_phrases(OPENINGS), opening=True)
_OTHER_OPENINGS = _Phrases(_phrases(OTHER_OPENINGS), opening=True)


# What keeps the question.


def synonym(text: str, chance: random.Random) -> str | None:
    return _SAME.replaced(text, chance)


def same_opening(text: str, chance: random.Random) -> str | None:
    return _OPENINGS.replaced(text, chance)


def polite(text: str, chance: random.Random) -> str | None:
    bare = text.rstrip(" ?.!")
    mark = text[len(bare) :].strip() or ""
    if chance.random() < 0.5:
        opening = chance.choice(BEFORE)
        return opening + bare[:1].lower() + bare[1:] + mark
    return bare + chance.choice(AFTER) + mark


def plain_typing(text: str, chance: random.Random) -> str | None:
    """As it is typed in a hurry: no capitals, no marks at the end."""
    changed = text.lower().rstrip(" ?.!") if chance.random() < 0.7 else text.rstrip(" ?.!")
    return changed if changed != text else None


def typing_error(text: str, chance: random.Random) -> str | None:
    """One letter of a long word doubled, lost, or exchanged with the next."""
    words = [found for found in _WORD.finditer(text) if len(found[0]) >= 6 and found[0].islower()]
    if not words:
        return None
    word = chance.choice(words)
    place = chance.randrange(word.start() + 1, word.end() - 1)
    kind = chance.randrange(3)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[:place] + text[place] + text[place:]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


_EITHER = re.compile(
    rf"\b([A-Za-z][\w+#-]*)((?:,)? (?:{'|'.join(ORDER_FREE)}) )(?!(?:an?|the|how|what|why|do|is|are|can|i|you|so)\b)"
    r"([A-Za-z][\w+#-]*)(?=[ ?.!,]|$)",
    re.IGNORECASE,
)


def exchange_equals(text: str, chance: random.Random) -> str | None:
    """ "between tea and coffee" → "between coffee and tea"."""
    found = [
        each
        for each in _EITHER.finditer(text)
        if each[1].lower() not in STOP and each[3].lower() not in STOP and each[1].lower() != each[3].lower()
    ]
    # Only lists of single words: in "red wine and cheese" more than a word would have to move.
    found = [each for each in found if re.search(r"(between|of|either|are|is|like|for|,|:) $", text[: each.start()])]
    if not found:
        return None
    place = chance.choice(found)
    return text[: place.start()] + place[3] + place[2] + place[1] + text[place.end() :]


_PLACE = re.compile(r"^(.{15,}?) ((?:in|for|during|after|before|without|at|on|as) [A-Za-z0-9' -]{3,30})([?.!]*)$")


def move_to_front(text: str, chance: random.Random) -> str | None:  # noqa: ARG001
    """ "How do I vote in Ohio?" → "In Ohio, how do I vote?"."""
    found = _PLACE.match(text)
    if not found or not text[:1].isupper() or " " not in found[1]:
        return None
    last = found[2][:1].upper() + found[2][1:]
    first = found[1] if found[1].startswith("I ") else found[1][:1].lower() + found[1][1:]
    return f"{last}, {first}{found[3]}"


def contraction(text: str, chance: random.Random) -> str | None:
    pairs = [("do not", "don't"), ("cannot", "can't"), ("can not", "can't"), ("is not", "isn't"), ("I am", "I'm"),
             ("does not", "doesn't"), ("What is", "What's"), ("It is", "It's"), ("I have", "I've"),
             ("did not", "didn't"), ("will not", "won't")]  # fmt: skip
    chance.shuffle(pairs)
    for one, other in pairs:
        for old, new in ((one, other), (other, one)):
            if re.search(rf"\b{re.escape(old)}\b", text):
                return re.sub(rf"\b{re.escape(old)}\b", new, text, count=1)
    return None


# What makes it another question.


def other_word(text: str, chance: random.Random) -> str | None:
    return _APART.replaced(text, chance)


def other_opening(text: str, chance: random.Random) -> str | None:
    return _OTHER_OPENINGS.replaced(text, chance)


def other_number(text: str, chance: random.Random) -> str | None:
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    place = chance.choice(found)
    digits = place[0].replace(",", "")
    try:
        number = float(digits)
    except ValueError:
        return None
    if 1900 <= number <= 2100:
        new = str(int(number) + chance.choice([-10, -5, -3, -2, -1, 1, 2, 3]))
    elif "." in digits:
        new = f"{number + chance.choice([-0.5, 0.5, 1.5, 2.0, 10]):g}"
    else:
        new = str(max(1, int(number * chance.choice([0.1, 0.5, 2, 3, 10, 100])) + chance.choice([0, 0, 1, -1, 5])))
    return text[: place.start()] + new + text[place.end() :] if new != digits else None


_NEGATABLE = (
    (re.compile(r"\b(do|does|did|is|are|was|were|should|would|could|will|has|have) (I|you|we|they|he|she|it|people)\b",
                re.IGNORECASE), r"\1 \2 not"),
    (re.compile(r"\b(can) (I|you|we|they|he|she|it|people)\b", re.IGNORECASE), r"\1 \2 not"),
    (re.compile(r"\b(is|are|was|were|will|would|should|must|do|does) (?=[a-z]+)(?!not|it|he|she|they|we|you|i\b|the|a\b"
                r"|an\b|there|my|your|this|that|some|any)", re.IGNORECASE), r"\1 not "),
    (re.compile(r"\bto (?=[a-z]{4,}\b)"), "not to "),
    (re.compile(r"\bwith\b"), "without"),
)  # fmt: skip


def negated(text: str, chance: random.Random) -> str | None:
    """ "is safe" → "is not safe", and the other way."""
    without = re.sub(r"\b(not|never) |n't\b", "", text, count=1)
    if without != text:
        return without
    fitting = [(pattern, new) for pattern, new in _NEGATABLE if pattern.search(text)]
    if not fitting:
        return None
    pattern, new = chance.choice(fitting)
    return pattern.sub(new, text, count=1)


_ROLES = re.compile(r"\bfrom ((?:[a-z]+ )?[\w£$€]+) to ((?:an? |my )?[\w£$€]+)", re.IGNORECASE)


def roles_exchanged(text: str, chance: random.Random) -> str | None:  # noqa: ARG001
    """ "from pounds to euros" → "from euros to pounds"."""
    found = _ROLES.search(text)
    if not found or found[1].lower() == found[2].lower():
        return None
    return text[: found.start()] + f"from {found[2]} to {found[1]}" + text[found.end() :]


class Names:
    """Capitalised words in the middle of a sentence, to put one in another's place."""

    def __init__(self, texts: list[str]) -> None:
        self._names = sorted({name for text in texts for name in names_in(text)})

    def other_name(self, text: str, chance: random.Random) -> str | None:
        found = names_in(text)
        if not found or not self._names:
            return None
        old, new = chance.choice(found), chance.choice(self._names)
        return text.replace(old, new, 1) if new.lower() not in text.lower() else None


def names_in(text: str) -> list[str]:
    words = text.split()
    return [
        bare
        for word in words[1:]
        if (bare := word.strip("\"'?.,!:;()"))
        and bare[0].isupper()
        and bare not in ("I", "I'm", "I've")
        and bare.isalpha()
    ]


class Likeness:
    """Which words are of one kind, by their vectors in a table of word vectors."""

    def __init__(self, vector_of: Callable[[str], object], least: float = 0.3) -> None:
        """vector_of: gives a unit vector (numpy, [n]), or None for a word that is not one token."""
        self._vector_of = vector_of
        self._least = least

    def words_exchanged(self, text: str, chance: random.Random) -> str | None:
        """Two words of one kind change places: "why do cats chase dogs" → "why do dogs chase cats"."""
        found = [each for each in _WORD.finditer(text) if each[0].lower() not in STOP and len(each[0]) > 2]
        pairs: list[tuple[re.Match[str], re.Match[str]]] = []
        for place, one in enumerate(found):
            for other in found[place + 1 :]:
                between = text[one.end() : other.start()]
                if (
                    one[0].lower() == other[0].lower()
                    or re.fullmatch(r",? (and|or|vs\.?|versus) ", between)
                    or between == " "
                ):
                    continue
                a, b = self._vector_of(one[0].lower()), self._vector_of(other[0].lower())
                if a is not None and b is not None and float(a @ b) >= self._least:  # pyright: ignore[reportOperatorIssue]
                    pairs.append((one, other))
        if not pairs:
            return None
        one, other = chance.choice(pairs)
        first, second = other[0], one[0]
        if one.start() == 0:
            first = first[:1].upper() + first[1:]
        changed = text[: one.start()] + first + text[one.end() : other.start()] + second + text[other.end() :]
        return changed if exchange_equals(text, chance) != changed else None


KEEPING: tuple[tuple[Change, float], ...] = (
    (synonym, 3), (same_opening, 4), (polite, 1.5), (plain_typing, 1.5), (typing_error, 0.7), (exchange_equals, 12),
    (move_to_front, 3), (contraction, 1.5),
)  # fmt: skip
"""Changes that keep the question, and how often each is tried."""

BREAKING: tuple[tuple[Change, float], ...] = (
    (other_word, 5), (other_opening, 1.5), (other_number, 4), (negated, 1.5), (roles_exchanged, 6),
)  # fmt: skip


def changed(text: str, changes: tuple[tuple[Change, float], ...], chance: random.Random) -> tuple[str, str] | None:
    """One change that applies, by the given weights: (the new text, the change's name); None where none does."""
    left = list(changes)
    while left:
        change, _ = picked = chance.choices(left, [weight for _, weight in left])[0]
        left.remove(picked)
        new = change(text, chance)
        if new is not None and new.lower() != text.lower():
            return new, change.__name__
        if new is not None and new != text:
            return new, change.__name__
    return None
