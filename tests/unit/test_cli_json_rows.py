"""A file of JSON lines is read row by row, and what is no row is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from millpond_cli import json_rows
from millpond_cli.cache_trial import read_pairs
from millpond_cli.errors import CommandError

LINE_ENDS_ELSEWHERE = "one\u2028two\u2029three\x85four\x0b\x0c\x1c\x1d\x1efive"
"""What Python's `splitlines` takes for the end of a line, and JSON allows in a string, escaped or not."""


class Said(BaseModel):
    text: str


@given(st.lists(st.text() | st.just(LINE_ENDS_ELSEWHERE), min_size=1, max_size=5))
def test_every_text_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    assert [row.text for row in json_rows.read(path, Said)] == texts


def test_a_pair_may_have_any_separator_in_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"a": "one\u2028two", "b": "one two", "same": 1}, ensure_ascii=False) + "\n", "utf-8")
    (pair,) = read_pairs(path)
    assert pair.cached == "one\u2028two"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{", "is not JSON"),
        ("{}", "text"),
        (json.dumps({"text": "\ud800"}), "surrogate"),
    ],
)
def test_what_is_no_row_is_named_by_its_line(tmp_path: Path, line: str, wrong: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "sound"}}\n\n{line}\n')
    with pytest.raises(CommandError, match=f"line 3.*{wrong}"):
        json_rows.read(path, Said)
