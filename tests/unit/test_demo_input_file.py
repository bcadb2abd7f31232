"""What becomes of a file of one's own requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond_cli.demo.input_file import read
from millpond_cli.errors import CommandError
from millpond_core.validate import Limits

SOUND = '{"messages": [{"role": "user", "content": "hi"}]}'


def file_of(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "own.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def test_lines_are_sent_as_they_stand_and_blank_ones_are_not(tmp_path: Path) -> None:
    line = '{"id": "a", "tenant": "acme",  "messages": [{"role": "user", "content": "hi"}]}'
    (demand, other) = read(file_of(tmp_path, line, "", '{"messages": []}'), None)
    assert demand.body == line.encode()
    assert demand.key == b"acme/a"
    assert other.key is None


def test_an_object_with_wrong_fields_is_sent_since_its_result_says_what_is_wrong(tmp_path: Path) -> None:
    assert len(read(file_of(tmp_path, '{"id": 7, "messages": "hi", "colour": 1}'), None)) == 1


def test_where_nobody_reads_its_result_it_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="line 2: colour"):
        read(file_of(tmp_path, SOUND, '{"messages": [], "colour": 1}'), None, strict=Limits())
    with pytest.raises(CommandError, match="line 2: messages"):
        read(file_of(tmp_path, SOUND, '{"messages": []}'), None, strict=Limits())


@pytest.mark.parametrize("line", ["not JSON", "[1, 2]", b'{"id": "\xff"}', '"text"', "{"])
def test_a_line_that_can_get_no_result_is_named_before_anything_is_sent(tmp_path: Path, line: str | bytes) -> None:
    with pytest.raises(CommandError, match="line 2: the record's value") as failure:
        read(file_of(tmp_path, '{"messages": []}', line), None)
    assert failure.value.exit_code == 2


def test_the_same_id_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="line 3: the id of line 1 again"):
        read(
            file_of(tmp_path, '{"id": "a"}', '{"id": "a", "tenant": "acme"}', '{"id": "a", "tenant": "default"}'), None
        )


def test_no_file_and_no_request_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read(tmp_path / "none.jsonl", None)
    with pytest.raises(CommandError, match="no request"):
        read(file_of(tmp_path, "", " "), None)


def test_only_as_many_as_asked_for_are_read(tmp_path: Path) -> None:
    assert len(read(file_of(tmp_path, *["{}"] * 10), 4)) == 4
