"""A generator's sampling parameters: what is taken, and that nothing else is taken silently."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "generator" / "1"))

from sampling import DEFAULT_MAX_TOKENS, InvalidParams, Sampling, parse

MOST = 512


def test_no_parameters_are_the_defaults() -> None:
    assert parse("", MOST) == parse(b"{}", MOST) == Sampling(max_tokens=DEFAULT_MAX_TOKENS)


def test_the_default_is_lowered_to_the_bound() -> None:
    assert parse("", 16).max_tokens == 16


def test_every_parameter_is_read() -> None:
    given = {
        "max_tokens": 9, "min_tokens": 2, "temperature": 0, "top_p": 0.5, "top_k": 3, "presence_penalty": 1,
        "frequency_penalty": -1, "repetition_penalty": 1.5, "stop": ["a", "b"], "seed": 4, "ignore_eos": True, "n": 1,
    }  # fmt: skip
    sampling = parse(json.dumps(given), MOST)
    assert sampling == Sampling(9, 2, 0.0, 0.5, 3, 1.0, -1.0, 1.5, ("a", "b"), 4, True)
    assert sampling.greedy


def test_null_is_the_same_as_left_out() -> None:
    nulls = dict.fromkeys(("max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "ignore_eos"))
    assert parse(json.dumps(nulls), MOST) == parse("", MOST)


def test_one_stop_string_needs_no_list() -> None:
    assert parse('{"stop": "END"}', MOST).stop == ("END",)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1]",
        "3",
        '{"max_tokens": 0}',
        '{"max_tokens": 513}',
        '{"max_tokens": 1.5}',
        '{"max_tokens": true}',
        '{"max_tokens": "9"}',
        '{"min_tokens": 200}',
        '{"temperature": -0.1}',
        '{"temperature": NaN}',
        '{"temperature": "hot"}',
        '{"top_p": 0}',
        '{"top_p": 1.1}',
        '{"top_k": -2}',
        '{"repetition_penalty": 0}',
        '{"seed": -1}',
        '{"seed": 9223372036854775808}',
        '{"stop": [""]}',
        '{"stop": [1]}',
        '{"stop": {"a": 1}}',
        '{"ignore_eos": 1}',
        '{"n": 2}',
        '{"no_such_parameter": 1}',
        "[" * 100_000,
    ],
)
def test_what_cannot_be_honoured_is_refused(text: str) -> None:
    with pytest.raises(InvalidParams):
        parse(text, MOST)
