"""What somebody else wrote, as a terminal may show it."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """What somebody sent, or a model wrote, must not steer the terminal that shows it."""
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)
