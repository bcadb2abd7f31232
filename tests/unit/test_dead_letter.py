"""A dead letter is the record as it came, with what is said of it, and always fits into its topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_core.dead_letter import PREFIX, dead_letter
from millpond_core.errors import Code
from millpond_core.processor import CONTENT_BYTES, LARGEST_RECORD_BYTES, Outgoing, Partition, Record

TAKES_BYTES = LARGEST_RECORD_BYTES


def letter_of(key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> Outgoing:
    record = Record(Partition("ai.requests", 3), 41, 1_795_399_200_250, key, value, headers)
    return dead_letter(record, "router", Code.MALFORMED, "it is no request")


@given(
    st.none() | st.binary(),
    st.none() | st.binary(),
    st.lists(st.tuples(st.text().filter(lambda name: not name.startswith(PREFIX)), st.binary())),
)
def test_key_value_and_headers_are_the_records_own(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    letter = letter_of(key, value, *headers)
    assert (letter.key, letter.value) == (key, value)
    assert letter.headers[: len(headers)] == tuple(headers)
    assert dict(letter.headers[len(headers) :]) == {
        "dead-letter-reason": b"malformed",
        "dead-letter-message": b"it is no request",
        "dead-letter-service": b"router",
        "dead-letter-topic": b"ai.requests",
        "dead-letter-partition": b"3",
        "dead-letter-offset": b"41",
        "dead-letter-timestamp-ms": b"1795399200250",
    }


def test_a_second_death_takes_the_place_of_the_first() -> None:
    first = letter_of(b"key", b"value", ("mine", b"1"))
    second = letter_of(first.key, first.value, *first.headers)
    assert second == first


def test_a_dead_letter_is_in_the_log_with_its_place_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    letter_of(b"key", b"value", ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    letter_of(b"key", b"value")
    traced, bare = (vars(line) for line in caplog.records)
    assert (traced["code"], traced["topic"], traced["offset"]) == ("malformed", "ai.requests", 41)
    assert traced["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "trace_id" not in bare


SIZES = st.sampled_from(
    [0, 1, CONTENT_BYTES // 3, CONTENT_BYTES - 100, CONTENT_BYTES, CONTENT_BYTES + 1, 3 * TAKES_BYTES]
)


@given(SIZES, SIZES, SIZES)
def test_what_is_too_large_for_the_topic_is_cut_and_says_so(key: int, value: int, header: int) -> None:
    letter = letter_of(bytes(key), bytes(value), ("mine", bytes(header)))
    size = len(letter.key or b"") + len(letter.value or b"")
    size += sum(len(name.encode()) + len(text) for name, text in letter.headers)
    assert size < TAKES_BYTES - 1024
    cut = dict(letter.headers).get("dead-letter-cut-from-bytes")
    assert (cut is None) == (key + value + header + len("mine") <= CONTENT_BYTES)
    assert cut in (None, str(value).encode())
