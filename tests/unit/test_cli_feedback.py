"""A file of results becomes judgements, or one line says which of its lines is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond.v1 import result_pb2
from millpond_cli.commands.feedback import read
from millpond_cli.errors import CommandError
from millpond_core import json_codec


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b"])
def test_a_result_may_have_any_separator_in_its_text(separator: str, tmp_path: Path) -> None:
    result = result_pb2.Result(id="a", tenant="acme", status=result_pb2.STATUS_OK)
    result.output.text = f"one{separator}two"
    result.served_by.model = "small"
    result.decision.judgement.heads = "1"
    result.decision.judgement.options.add(model="small", quality=0.5)
    file = tmp_path / "results.jsonl"
    file.write_bytes(json_codec.encode(result) + b"\n" + json_codec.encode(result) + b"\n")
    assert [len(each) for each in read(file, 1.0, "test")] == 2 * [1]
    assert [*read(file, None, "test")] == [[], []]


@pytest.mark.parametrize("line", ["[" * 100_000, "nonsense", "[]"], ids=["deep", "nonsense", "array"])
def test_a_line_that_is_no_result_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(line)
    with pytest.raises(CommandError, match="line 1 is not a JSON object"):
        list(read(file, 1.0, "test"))
