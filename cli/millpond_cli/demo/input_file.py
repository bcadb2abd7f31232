"""Requests of one's own: a file with one JSON object a line, as docs/contract.md describes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from millpond.v1 import request_pb2
from millpond_cli.demo.workload import Demand
from millpond_cli.errors import CommandError
from millpond_core import json_codec
from millpond_core.codec import READ_LIMIT_BYTES
from millpond_core.errors import Code, Malformed, Refused
from millpond_core.identity import NO_TENANT, key_of
from millpond_core.validate import Limits, check_fields


def read(path: Path, at_most: int | None, *, strict: Limits | None = None) -> Sequence[Demand]:
    """The requests of its first lines, sent as they stand.

    A line that is an object with wrong fields is sent too: its error result says what is wrong. One that could get no
    result at all is named before anything is sent; strict: so is one with wrong fields, or beyond these bounds. Raises
    CommandError.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as failure:
        raise CommandError(f"{path}: {failure.strerror}") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()][:at_most]
    if not numbered:
        raise CommandError(f"{path}: there is no request in it")
    line_of: dict[bytes, int] = {}
    demands: list[Demand] = []
    for number, line in numbered:
        try:
            demand = demand_of(line, number)
            if strict:
                check_fields(json_codec.decode(line, request_pb2.Request), strict)
        except (Malformed, Refused) as wrong:
            raise CommandError(f"{path}, line {number}: {wrong}") from None
        if demand.key is not None and (first := line_of.setdefault(demand.key, number)) != number:
            raise CommandError(
                f"{path}, line {number}: the id of line {first} again; it would be dropped as a copy, without a result"
            )
        demands.append(demand)
    return demands


def demand_of(line: bytes, number: int) -> Demand:
    """Raises Malformed for a line that is no JSON object, or is too large to be sent."""
    given = json_codec.parse(line)
    if len(line) > READ_LIMIT_BYTES:
        raise Malformed(Code.REQUEST_TOO_LARGE, f"it has {len(line)} bytes, and Kafka takes {READ_LIMIT_BYTES}")
    id, tenant = json_codec.identity_in(given)
    name = f"line {number}" + (f", id {id}" if id else "")
    return Demand(name, line, key_of(tenant or NO_TENANT, id) if id else None, "own")
