"""A supervisor's log holds reports of components, and where it failed the reason."""

from __future__ import annotations

import pytest

from millpond_cli.stack.detached import reported_name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("kafka: ready in 2.0 s", "kafka"),
        ("stand-in: ready in 2.0 s", "stand-in"),
        ("batcher-1: was ended by SIGKILL; starting it again in 0.5 s; see /log", "batcher-1"),
        ("stack: ready", "stack"),
        ("port 19092 (kafka) is taken by pid 7 (java): use --port-base", None),
        ("kafka ended with code 1 before it was ready; see /log", None),
        ("a stack is up in /run already (pid 7): ./millpond down stops it", None),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_whose_report_a_line_is(line: str, name: str | None) -> None:
    assert reported_name(line) == name
