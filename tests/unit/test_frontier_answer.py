"""What is taken for an answer, and what is not, of all that a provider may send."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.v1 import request_pb2, result_pb2
from millpond_core.errors import Code
from millpond_frontier.answer import LARGEST_BYTES, Pieces, Spoken, whole
from millpond_frontier.attempt import CallFailed

REQUEST = request_pb2.Request(messages=[request_pb2.Message(role="user", content="What is a mill?")])
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}

Read = Callable[[object, object, object], Spoken]


def in_one(text: object, reason: object, usage: object = None) -> Spoken:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": reason, "message": message}
    return whole({"model": "m", "choices": [choice], "usage": usage}, REQUEST)


def in_pieces(text: object, reason: object, usage: object = None) -> Spoken:
    pieces = Pieces(REQUEST)
    for each in text if isinstance(text, str) else [text]:
        pieces.add({"model": "m", "choices": [{"delta": {"content": each}, "finish_reason": None}]})
    pieces.add({"choices": [{"delta": {}, "finish_reason": reason}]})
    pieces.add({"choices": [], "usage": usage})
    return pieces.spoken()


both = pytest.mark.parametrize("read", [in_one, in_pieces])

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(st.characters(codec=None), max_size=9), st.floats()
)
names = st.sampled_from(["choices", "message", "delta", "content", "finish_reason", "usage", "model", "prompt_tokens"])
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@both
def test_an_answer_is_its_text_its_end_and_the_tokens_that_the_provider_counted(read: Read) -> None:
    spoken = read("A machine.", "stop", USAGE)
    assert spoken.output == result_pb2.Output(text="A machine.", finish_reason="stop")
    assert spoken.usage == result_pb2.Usage(input_tokens=11, output_tokens=3)
    assert (spoken.model, spoken.estimated) == ("m", False)
    assert read("A mach", "length", USAGE).output.finish_reason == "length"


@both
@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": 1 << 70}])
def test_tokens_that_are_not_counted_are_estimated_never_none_and_it_is_said(read: Read, usage: object) -> None:
    spoken = read("A", "stop", usage)
    assert spoken.usage.input_tokens > 0
    assert spoken.usage.output_tokens > 0
    assert spoken.estimated


@both
@pytest.mark.parametrize("text", ["", None, 3, ["a"]])
def test_what_has_no_text_is_no_answer_and_its_tokens_count_all_the_same(read: Read, text: object) -> None:
    with pytest.raises(CallFailed) as failure:
        read(text, "stop", USAGE)
    assert (failure.value.code, failure.value.retryable) == (Code.PROVIDER_ERROR, True)
    assert failure.value.usage.input_tokens == 11


@both
def test_an_answer_that_the_provider_filtered_is_a_refusal(read: Read) -> None:
    with pytest.raises(CallFailed) as failure:
        read("A mach", "content_filter", USAGE)
    assert (failure.value.code, failure.value.retryable) == (Code.PROVIDER_REFUSED, False)


@both
@pytest.mark.parametrize("letter", ["a", "€"])
def test_an_answer_that_no_record_could_hold_fails_for_good_and_is_paid(read: Read, letter: str) -> None:
    most = letter * (LARGEST_BYTES // len(letter.encode()))
    assert read(most, "stop", None).output.text == most
    with pytest.raises(CallFailed, match="max_tokens") as failure:
        read(most + letter, "stop", None)
    assert (failure.value.code, failure.value.retryable) == (Code.PROVIDER_ERROR, False)
    assert failure.value.usage.output_tokens > LARGEST_BYTES // 5


def test_of_a_stream_that_goes_on_for_ever_no_more_is_read_than_an_answer_may_have() -> None:
    pieces, piece = Pieces(REQUEST), {"choices": [{"delta": {"content": "a" * 1000}}]}
    for _ in range(LARGEST_BYTES // 1000):
        pieces.add(piece)
    with pytest.raises(CallFailed):
        pieces.add(piece)


def test_a_stream_that_ends_without_a_reason_was_broken_off() -> None:
    with pytest.raises(CallFailed, match="broken off"):
        in_pieces("A mach", None)


@given(anything)
@settings(deadline=None)
def test_any_json_is_an_answer_or_none(document: Any) -> None:
    with suppress(CallFailed):
        assert whole(document, REQUEST).output.text


@given(st.lists(anything, max_size=5))
@settings(deadline=None)
def test_any_stream_is_an_answer_or_none_and_its_pieces_are_the_whole(chunks: list[Any]) -> None:
    pieces = Pieces(REQUEST)
    text = "".join([pieces.add(chunk) for chunk in chunks])
    assert pieces.usage().input_tokens > 0
    with suppress(CallFailed):
        assert pieces.spoken().output.text == text


@given(st.lists(st.text(st.characters(codec=None), min_size=1), min_size=1))
@settings(deadline=None)
def test_pieces_are_the_whole_whatever_characters_they_hold(texts: list[str]) -> None:
    pieces = Pieces(REQUEST)
    told = [pieces.add({"choices": [{"delta": {"content": text}}]}) for text in texts]
    pieces.add({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    spoken = pieces.spoken()
    assert "".join(told) == spoken.output.text
    assert result_pb2.Output.FromString(spoken.output.SerializeToString()) == spoken.output
