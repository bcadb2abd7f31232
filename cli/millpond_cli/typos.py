"""Typing errors, the same ones each time: what `--typos` does to a text. Pure."""

from __future__ import annotations

import random

SHARE = 0.02
"""Of the letters. People leave about 1.2 % of their keystrokes wrong in what they send (Dhakal et al. 2018)."""

NEIGHBOURS = {
    **{"q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl"},
    **{"p": "ol", "a": "qsz", "s": "awdx", "d": "sefc", "f": "drgv", "g": "fthb", "h": "gyjn", "j": "hukm"},
    **{"k": "jil", "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm", "m": "njk"},
}
"""Keys beside each other on an English keyboard."""


def with_typos(text: str, seed: int = 0) -> str:
    """The text with a letter left out, doubled, swapped with the next, or hit beside: at SHARE of the letters, at one
    at least. What has no letter stays as it is.
    """
    chance = random.Random(f"{seed} {text}")  # noqa: S311
    places = [place for place, letter in enumerate(text) if letter.isalpha()]
    if not places:
        return text
    letters = list(text)
    for place in chance.sample(places, max(1, round(SHARE * len(places)))):
        letter = letters[place]
        kind = chance.choice(("left out", "doubled", "swapped", "beside"))
        if kind == "left out":
            letters[place] = ""
        elif kind == "doubled":
            letters[place] = letter * 2
        elif kind == "swapped" and place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letter
        else:
            beside = chance.choice(NEIGHBOURS.get(letter.lower(), letter))
            letters[place] = beside.upper() if letter.isupper() else beside
    return "".join(letters)
