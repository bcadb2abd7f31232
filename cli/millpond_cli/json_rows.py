"""Rows of a JSON-lines file, each an object of a known shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from millpond_cli.errors import CommandError

LARGEST_BYTES = 1 << 30
"""Of a file: it is held in memory."""

R = TypeVar("R", bound=BaseModel)


def read(path: Path, row: type[R]) -> Sequence[R]:
    """Empty lines are passed over. Raises CommandError, with the line's number, for what is no such row."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise CommandError(f"{path}: is larger than {LARGEST_BYTES >> 20} MiB: split it")
        # Only these end a line: JSON may have U+2028 in a string.
        lines = path.read_text("utf-8").split("\n")
    except OSError as failure:
        raise CommandError(f"{path}: cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError as failure:
        raise CommandError(f"{path}: is not UTF-8: {failure}") from None
    rows: list[R] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            # Python's strings may have what no text has, and UTF-8 does not write: half of a surrogate pair.
            json.dumps(value, ensure_ascii=False).encode()
            rows.append(row.model_validate(value))
        except json.JSONDecodeError as failure:
            raise CommandError(f"{path}: line {number} is not JSON: {failure.msg}") from None
        except UnicodeEncodeError:
            raise CommandError(f"{path}: line {number} has half of a surrogate pair, which is no character") from None
        except RecursionError:
            raise CommandError(f"{path}: line {number} is nested too deeply") from None
        except ValidationError as failure:
            error = failure.errors(include_url=False)[0]
            where = ".".join(str(part) for part in error["loc"])
            raise CommandError(f"{path}: line {number}: {where}: {error['msg']}") from None
    if not rows:
        raise CommandError(f"{path}: has no rows")
    return rows
