"""What two texts must have in common, however near their vectors are. Pure.

A sentence embedder sees what a text is about, and hardly sees "not", 5 for 50, or who is asked to be turned into whom.
It is also blind to some characters: MiniLM's tokenizer lowers case, drops accents, and reads a very long word, an emoji
or a letter of most scripts as one and the same unknown token. So what is neither a plain English word nor a name is
compared as it is written, in its order. What remains is the verifier's to judge. A wrong answer is worse than a miss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

NEGATIONS = frozenset(
    "no not never none nor neither nothing nobody nowhere non cannot without except unless hardly barely".split()  # noqa: SIM905
)

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "  # noqa: SIM905
        "eighteen nineteen twenty".split(),
        start=2,
    )
} | {"zero": "0", "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000"}
"""Not "one", which is a pronoun more often than a number."""

UNITS = {
    "%": "%", "percent": "%", "pct": "%", "$": "$", "usd": "$", "dollar": "$", "dollars": "$", "bucks": "$", "€": "€",
    "eur": "€", "euro": "€", "euros": "€", "£": "£", "gbp": "£", "pound": "£", "pounds": "£", "quid": "£", "¥": "¥",
    "jpy": "¥", "yen": "¥", "₹": "₹", "inr": "₹", "rs": "₹", "rupee": "₹", "rupees": "₹", "k": "thousand",
    "thousand": "thousand", "m": "m", "million": "million", "billion": "billion", "bn": "billion", "sec": "s",
    "second": "s", "seconds": "s", "min": "min", "minute": "min", "minutes": "min", "h": "h", "hr": "h", "hrs": "h",
    "hour": "h", "hours": "h", "day": "day", "days": "day", "week": "week", "weeks": "week", "month": "month",
    "months": "month", "year": "year", "years": "year", "yr": "year", "yrs": "year", "kg": "kg", "kgs": "kg",
    "kilogram": "kg", "kilograms": "kg", "g": "g", "gram": "g", "grams": "g", "mg": "mg", "lb": "lb", "lbs": "lb",
    "oz": "oz", "km": "km", "kilometer": "km", "kilometers": "km", "kilometre": "km", "kilometres": "km", "mile": "mi",
    "miles": "mi", "cm": "cm", "mm": "mm", "ft": "ft", "feet": "ft", "foot": "ft", "inch": "in", "inches": "in",
    "l": "l", "liter": "l", "liters": "l", "litre": "l", "litres": "l", "ml": "ml", "gb": "gb", "mb": "mb", "tb": "tb",
    "bps": "bps", "kwh": "kwh",
}  # fmt: skip
"""What may stand beside a number, and the unit it means."""

TIMES = {
    **{day: day for day in "monday tuesday wednesday thursday friday saturday sunday".split()},  # noqa: SIM905
    **{month: month for month in "january february april june july august september october".split()},  # noqa: SIM905
    "november": "november", "december": "december",
    "today": "today", "tonight": "today", "tomorrow": "tomorrow", "yesterday": "yesterday", "weekend": "weekend",
    "weekends": "weekend", "weekday": "weekday", "weekdays": "weekday", "morning": "morning", "mornings": "morning",
    "afternoon": "afternoon", "evening": "evening", "evenings": "evening", "night": "night", "nights": "night",
    "midnight": "midnight", "noon": "noon", "spring": "spring", "summer": "summer", "autumn": "autumn",
    "winter": "winter", "q1": "q1", "q2": "q2", "q3": "q3", "q4": "q4", "daily": "daily", "weekly": "weekly",
    "monthly": "monthly", "quarterly": "quarterly", "yearly": "yearly", "annual": "yearly", "annually": "yearly",
}  # fmt: skip
"""Words that say when. "may" and "march" are left out: they are verbs too."""

_RELATIVE = re.compile(r"\b(this|last|next|past|previous|coming) (week|month|year|quarter|weekend)\b")

OPPOSITES: tuple[tuple[str, ...], ...] = (
    ("begin", "end"), ("start", "end"), ("rise", "fall"), ("rises", "falls"), ("up", "down"),
    ("ascending", "descending"),
    ("increase", "decrease"), ("raise", "lower"), ("higher", "lower"), ("high", "low"), ("highest", "lowest"),
    ("buy", "sell"), ("buying", "selling"), ("open", "close"), ("opening", "closing"), ("freeze", "unfreeze"),
    ("lock", "unlock"), ("block", "unblock"), ("activate", "deactivate", "cancel"), ("enable", "disable"),
    ("deposit", "withdraw"), ("deposit", "withdrawal"), ("deposits", "withdrawals"), ("credit", "debit"),
    ("send", "receive"), ("sending", "receiving"), ("incoming", "outgoing"), ("lend", "borrow"),
    ("lender", "borrower"), ("before", "after"), ("gain", "lose"), ("best", "worst"), ("good", "bad"),
    ("more", "less"), ("most", "least"), ("first", "last"), ("minimum", "maximum"), ("min", "max"),
    ("upload", "download"), ("install", "uninstall"), ("import", "export"), ("accept", "reject"), ("love", "hate"),
    ("advantages", "disadvantages"), ("pros", "cons"), ("benefits", "risks"), ("causes", "symptoms", "treatments"),
    ("man", "woman"), ("men", "women"), ("boy", "girl"), ("boys", "girls"), ("male", "female"), ("guy", "girl"),
    ("boyfriend", "girlfriend"), ("husband", "wife"), ("mother", "father"), ("brother", "sister"), ("son", "daughter"),
    ("domestic", "international"), ("local", "international"), ("public", "private"), ("savings", "checking"),
    ("joint", "individual"), ("personal", "business"), ("mortgage", "auto", "student"), ("gross", "net"),
    ("stocks", "bonds"), ("stock", "bond"), ("revenue", "profit", "debt"), ("asset", "liability"),
    ("assets", "liabilities"), ("fixed", "variable"), ("bull", "bear"), ("bullish", "bearish"), ("legal", "illegal"),
    ("safe", "dangerous"), ("possible", "impossible"), ("always", "never"), ("win", "lose"), ("start", "stop"),
    ("employee", "employer"), ("buyer", "seller"), ("tenant", "landlord"), ("teacher", "student"), ("pin", "password"),
    ("iphone", "android"), ("ios", "android"), ("windows", "mac", "linux"), ("visa", "mastercard"), ("import", "ban"),
    ("adults", "children", "infants"), ("pregnant", "breastfeeding"), ("physical", "virtual"), ("early", "late"),
    ("hot", "cold"), ("with", "without"), ("old", "new"), ("longest", "shortest"), ("wire", "ach"),
    ("roth", "traditional"), ("long-term", "short-term"), ("refund", "chargeback"),
    ("income", "property", "sales"), ("primary", "secondary"),
)  # fmt: skip
"""Words of one kind that never mean the same. Where one text has the one and lacks the other, and the other text the
other way round, they ask about two things."""

_OPPOSED = {
    word: frozenset(other for group in OPPOSITES if word in group for other in group if other != word)
    for word in {word for group in OPPOSITES for word in group}
}
"""Each of these words, and those that never mean the same."""

REMEMBERED = 512
"""Texts of which what stands out is kept: those of one round of look-ups, each with its candidates."""

LONG_WORD = 32
"""Letters from which a word counts as an identifier: no English word, and the embedder gives up at 100."""

_CHUNK = re.compile(r"\n[ \t]+|\S+")
"""Indentation has a meaning in code and in lists."""

_OPENING = "([{\"'“‘«¿¡"
_CLOSING = ".,;:!?)]}\"'”’»…"
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_QUANTITY = re.compile(r"([$€£¥₹]?)([-+]?[$€£¥₹]?\d+(?:[.,]\d+)*)([A-Za-z%$€£¥₹]*)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_SENTENCE_END = (".", "!", "?", ":")
_EXCHANGE = re.compile(r"\bfrom ((?:[\w$€£-]+ ){0,2}[\w$€£-]+) (?:in)?to ((?:[\w$€£-]+ ){0,2}[\w$€£-]+)")


class Kind(StrEnum):
    NUMBERS = "numbers"
    IDENTIFIERS = "identifiers"
    NEGATIONS = "negations"
    DATES = "dates"
    NAMES = "names"
    OPPOSITES = "opposites"
    ROLES = "roles"


@dataclass(slots=True)
class _Marks:
    """What stands out in a text. words: all, in small letters. names: in small letters too."""

    numbers: list[str] = field(default_factory=list[str])
    identifiers: list[str] = field(default_factory=list[str])
    negations: list[str] = field(default_factory=list[str])
    dates: set[str] = field(default_factory=set[str])
    names: set[str] = field(default_factory=set[str])
    words: set[str] = field(default_factory=set[str])
    exchange: tuple[str, str] | None = None


def disagreement(one: str, other: str) -> Kind | None:
    """The first of `disagreements`; None where the two texts may have one answer."""
    return next(iter(disagreements(one, other)), None)


def disagreements(one: str, other: str) -> Sequence[Kind]:
    """What the two texts do not share. Symmetric, and empty for a text and itself.

    Numbers with their units, identifiers (codes, symbols, words that are not plain English letters) and negations must
    be equal, each in their order; words that say when must be the same ones. Names may be left out by one text, but not
    put in place of others. Of two opposites both texts must have the same, and what is turned into what may not be
    exchanged.
    """
    ours, theirs = _marks(one), _marks(other)
    found = {
        Kind.NUMBERS: ours.numbers != theirs.numbers,
        Kind.IDENTIFIERS: ours.identifiers != theirs.identifiers,
        Kind.NEGATIONS: ours.negations != theirs.negations,
        Kind.DATES: ours.dates != theirs.dates,
        Kind.NAMES: bool(_lacking(ours, theirs)) and bool(_lacking(theirs, ours)),
        Kind.OPPOSITES: _opposed(ours.words, theirs.words),
        Kind.ROLES: ours.exchange is not None and theirs.exchange == ours.exchange[::-1] != ours.exchange,
    }
    return [kind for kind in Kind if found[kind]]


def _lacking(ours: _Marks, theirs: _Marks) -> set[str]:
    """Names of ours that theirs do not have in any form: "Indian" has "India", "NYC's" has "NYC"."""
    return {
        name
        for name in ours.names
        if name not in theirs.words
        and not any(len(word) >= 3 and (word.startswith(name) or name.startswith(word)) for word in theirs.words)
    }


def _opposed(ours: Set[str], theirs: Set[str]) -> bool:
    return any(
        yours in theirs and yours not in ours
        for mine in ours & _OPPOSED.keys()
        if mine not in theirs
        for yours in _OPPOSED[mine]
    )


@lru_cache(REMEMBERED)
def _marks(text: str) -> _Marks:
    """Not to be changed: a question is held against each of its candidates."""
    marks = _Marks()
    begins = True
    waiting_for_unit = False
    for match in _CHUNK.finditer(text.replace("’", "'")):
        chunk = match[0]
        bare = chunk.lstrip(_OPENING).rstrip(_CLOSING) or chunk
        if waiting_for_unit and (unit := UNITS.get(bare.lower())):
            marks.numbers[-1] += f" {unit}"
            waiting_for_unit = False
        else:
            waiting_for_unit = _mark(bare, marks, begins=begins)
        begins = chunk.endswith(_SENTENCE_END)
    low = " ".join(text.lower().split())
    marks.dates |= {f"{found[1]} {found[2]}" for found in _RELATIVE.finditer(low)}
    if found := _EXCHANGE.search(low):
        marks.exchange = (found[1], found[2])
    return marks


def _mark(bare: str, marks: _Marks, *, begins: bool) -> bool:  # noqa: PLR0912
    """begins: whether the word begins a sentence, where a capital says nothing. Whether a unit may follow."""
    if found := _QUANTITY.fullmatch(bare):
        number, unit = _amount(found)
        if unit is not None:
            marks.numbers.append(number)
            if unit:
                marks.numbers[-1] += f" {unit}"
            return not unit
    if found := _ORDINAL.fullmatch(bare.lower()):
        marks.numbers.append(found[1])
        return False
    if not _WORD.fullmatch(bare) or len(bare) >= LONG_WORD:
        for part in bare.split("/") if re.fullmatch(r"[A-Za-z]+(/[A-Za-z]+)+", bare) else ():
            _mark(part, marks, begins=True)
        if not re.fullmatch(r"[A-Za-z]+(/[A-Za-z]+)+|[-–—&]", bare):
            when = TIMES.get(bare.lower())
            if when:
                marks.dates.add(when)
            else:
                marks.identifiers.append(bare)
        return False
    parts = [bare.lower(), *bare.lower().split("-")] if "-" in bare else [bare.lower()]
    stem = bare.lower().removesuffix("'s")
    marks.words |= {*parts, stem}
    number = False
    for part in bare.lower().split("-"):
        if part in NUMBER_WORDS:
            marks.numbers.append(NUMBER_WORDS[part])
            number = True
        elif part in NEGATIONS or part.endswith("n't"):
            # "do not" and "don't" are the same, and so are "cannot" and "can't".
            marks.negations.append("not" if part == "cannot" or part.endswith("n't") else part)
        elif stem in TIMES or part in TIMES:
            marks.dates.add(TIMES.get(part) or TIMES[stem])
    if not number and stem not in TIMES and _is_name(bare, begins=begins):
        marks.names.add(stem)
    return number


def _amount(found: re.Match[str]) -> tuple[str, str | None]:
    """The number, plainly written, and its unit: "" without one, None for what is no quantity after all."""
    before, digits, after = found[1], found[2], found[3].lower()
    sign = next((each for each in digits if each in "$€£¥₹"), "") or before
    number = re.sub(r"[$€£¥₹]", "", digits)
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", number):
        number = number.replace(",", "")
    if after == "k" and "." not in number and "," not in number:
        number, after = f"{number}000", ""
    if after and after not in UNITS:
        return number, None
    units = [UNITS[each] for each in (sign, after) if each]
    return number, " ".join(units)


def _is_name(word: str, *, begins: bool) -> bool:
    """ "Paris", "HTTP", "camelCase"; not "I", nor what begins a sentence."""
    if word == "I" or word.startswith("I'"):
        return False
    return any(letter.isupper() for letter in (word[1:] if begins else word))


def marked(text: str) -> Iterator[str]:
    """Every number, identifier, date and name of the text: what a paraphrase keeps."""
    marks = _marks(text)
    yield from (*marks.numbers, *marks.identifiers, *sorted(marks.dates), *sorted(marks.names))
