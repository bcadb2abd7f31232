"""`./millpond feedback RESULTS.jsonl`"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from millpond.v1 import feedback_pb2, result_pb2
from millpond_cli import feedback_topic
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_of
from millpond_core import json_codec
from millpond_core.errors import Malformed


def feedback(
    file: Annotated[
        Path, typer.Argument(metavar="RESULTS.jsonl", help="Results, as tail --json shows them; - reads them.")
    ],
    good: Annotated[
        float | None, typer.Option(min=0, max=1, help="How good each answer was that its line's `good` does not judge.")
    ] = None,
    source: Annotated[str, typer.Option(help="Who says so: user, review, or a word of your own.")] = "user",
) -> None:
    """Tell the router how good answers were: ai.feedback, from which it can learn.

    A model that was tried before another one answered counts as not good enough, whatever the answer was.
    """
    by_line = list(read(file, good, source))
    judgements = [each for judged in by_line for each in judged]
    feedback_topic.send(settings_of(addresses_here()), judgements)
    counts = Counter(each.model for each in judgements)
    print(
        f"{len(judgements)} judgements: {', '.join(f'{count} of {name}' for name, count in counts.items()) or 'none'}"
    )
    if silent := by_line.count([]):
        print(f"{silent} of {len(by_line)} results tell nothing: they need `good`, 0 to 1 (or --good), and a model")


def read(file: Path, good: float | None, source: str) -> Iterator[list[feedback_pb2.Feedback]]:
    """What each result tells of models, nothing where nobody judged it. Raises CommandError, with the line's number."""
    from millpond_router.outcomes import feedback_of

    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        result, judged = _result(file, number, line)
        yield feedback_of(result, good if judged is None else judged, source)


def _lines(file: Path) -> Sequence[str]:
    try:
        # Only these end a line: JSON may have U+2028 in a string.
        return (sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")).split("\n")
    except OSError as failure:
        raise CommandError(f"{file}: cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError as failure:
        raise CommandError(f"{file}: is not UTF-8: {failure}") from None


def _result(file: Path, number: int, line: str) -> tuple[result_pb2.Result, float | None]:
    try:
        given = json.loads(line)
        judged = given.pop("good", None)
        if judged is not None and not (isinstance(judged, int | float) and 0 <= judged <= 1):
            raise CommandError(f"{file}: line {number}: good: must be a number from 0 to 1")
        return json_codec.decode(json.dumps(given).encode(), result_pb2.Result), judged
    except (json.JSONDecodeError, AttributeError, TypeError, RecursionError):
        raise CommandError(f"{file}: line {number} is not a JSON object") from None
    except Malformed as failure:
        raise CommandError(f"{file}: line {number} is no result: {failure}") from None
