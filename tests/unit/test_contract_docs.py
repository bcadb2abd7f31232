"""docs/contract.md says what the code does: every field, range, bound, code, header and topic, and none besides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.timestamp_pb2 import Timestamp

from millpond.v1.request_pb2 import CacheMode, Request, Tier
from millpond.v1.result_pb2 import Result, Route, Status
from millpond_core import topics
from millpond_core.codec import CONTENT_TYPE, READ_LIMIT_BYTES, decode_request
from millpond_core.dead_letter import CONTENT_BYTES, dead_letter
from millpond_core.envelope import REPLAY_HEADER
from millpond_core.errors import Code
from millpond_core.identity import MAX_ID_CHARACTERS, NO_TENANT
from millpond_core.json_codec import WHOLE, map_entry, words_of
from millpond_core.processor import Partition, Record
from millpond_core.telemetry import TRACEPARENT
from millpond_core.validate import DEFAULT_MAX_TOKENS, PARAMS, ROLES, Limits

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "contract.md").read_text("utf-8")
LIMITS = Limits()


def rows_of(title: str) -> dict[str, str]:
    """The rows of the tables under one heading: what stands first in backquotes → the whole row."""
    section = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)
    body = next(each for each in section if each.startswith(title))
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", body, flags=re.MULTILINE)}


def paths_of(kind: type[Request] | type[Result]) -> list[str]:
    """Each field as the document names it; a message that stands in two places is told once, in the first."""
    told = {Timestamp.DESCRIPTOR.full_name}

    def walk(message: Descriptor, prefix: str) -> Iterator[str]:
        for field in message.fields:
            yield prefix + field.name
            inner = field.message_type
            if inner is not None and map_entry(field) is None and inner.full_name not in told:
                told.add(inner.full_name)
                yield from walk(inner, f"{prefix}{field.name}{'[]' if field.is_repeated else ''}.")

    return list(walk(cast("Descriptor", kind.DESCRIPTOR), ""))


@pytest.mark.parametrize(("title", "kind"), [("Request", Request), ("Result", Result)])
def test_every_field_is_told_in_order(title: str, kind: type[Request] | type[Result]) -> None:
    told = list(rows_of(title))
    # Params have a table of their own, in an order that a reader wants.
    assert sorted(told) == sorted(paths_of(kind))
    told = [path for path in told if "params." not in path]
    assert told == [path for path in paths_of(kind) if "params." not in path]


@pytest.mark.parametrize(
    ("title", "path", "enum"),
    [
        ("Request", "tier", Tier),
        ("Request", "cache.mode", CacheMode),
        ("Result", "status", Status),
        ("Result", "served_by.route", Route),
        ("Result", "decision.route", Route),
        ("Result", "decision.tier", Tier),
    ],
)
def test_every_word_is_told(title: str, path: str, enum: Any) -> None:
    assert set(words_of(enum.DESCRIPTOR)) <= set(re.findall(r"`([a-z]+)`", rows_of(title)[path]))


@pytest.mark.parametrize("name", PARAMS)
def test_every_range_is_told(name: str) -> None:
    assert PARAMS[name].words in rows_of("Request")[f"params.{name}"]


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("id", [MAX_ID_CHARACTERS]),
        ("tenant", [f"`{NO_TENANT}`"]),
        ("deadline", [LIMITS.max_deadline_s]),
        ("messages", [LIMITS.max_messages, LIMITS.max_text_characters]),
        ("messages[].role", [f"`{role}`" for role in ROLES]),
        ("cache.ttl_s", [LIMITS.max_ttl_s]),
        ("metadata", [LIMITS.max_metadata_entries, LIMITS.max_metadata_characters]),
        ("params.max_tokens", [LIMITS.max_tokens, DEFAULT_MAX_TOKENS]),
        ("params.stop", [LIMITS.max_stops, LIMITS.max_stop_characters]),
    ],
)
def test_every_bound_is_told(path: str, numbers: list[int | str]) -> None:
    row = rows_of("Request")[path]
    assert all(re.search(rf"(?<!\w){re.escape(str(number))}(?!\w)", row) for number in numbers)


def test_every_error_code_is_told() -> None:
    assert list(rows_of("Error codes")) == list(Code)


def test_every_header_is_told() -> None:
    assert list(rows_of("Headers")) == [CONTENT_TYPE, TRACEPARENT, REPLAY_HEADER]


def test_every_header_of_a_dead_letter_is_told() -> None:
    large = Record(Partition("ai.requests", 0), 0, 0, None, bytes(CONTENT_BYTES + 1), ())
    letter = dead_letter(large, "router", Code.MALFORMED, "")
    assert list(rows_of("Dead letters")) == [name for name, _ in letter.headers]


def test_every_topic_of_a_user_is_told() -> None:
    written = {topic.name: "you write" for topic in topics.TOPICS if "producer" in topic.writers}
    read = {topic.name: "you read" for topic in topics.TOPICS if "consumer" in topic.readers}
    told = {name: row.split("|")[2].strip() for name, row in rows_of("Topics").items()}
    assert told == written | read


def test_the_example_is_a_request() -> None:
    example = re.search(r"```json\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    assert example is not None
    assert decode_request(example[1].encode(), None, READ_LIMIT_BYTES)[0].messages


def test_the_whole_messages_are_told() -> None:
    """Which objects of a result always have all their fields."""
    told = set(re.findall(r"`([a-z_.]+)`", DOCUMENT.split("except in")[1].split("which are")[0]))
    wholes = {"output": "Output", "error": "Error", "usage": "Usage", "served_by.cache": "CacheHit"}
    assert told == set(wholes)
    assert {f"millpond.v1.{name}" for name in wholes.values()} == WHOLE - {"millpond.v1.Result", "millpond.v1.Message"}


def test_the_largest_record_that_is_read_is_the_largest_that_the_broker_takes() -> None:
    requests = next(topic for topic in topics.TOPICS if topic.name == topics.REQUESTS)
    assert requests.settings["max.message.bytes"] == str(READ_LIMIT_BYTES)
