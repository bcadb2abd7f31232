"""What belongs to a hard partition, and that nothing passes for something else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from millpond.v1 import envelope_pb2, request_pb2
from millpond_cache.partition import MAX_TEXT_BYTES, question_of
from millpond_core.cache_key import answer_key, partition_of
from millpond_core.embedding import READS_TOKENS, pack, prompt_text

TEXTS = st.text(alphabet="ab\0\n:1 ", max_size=4)
"""Few and short, so that two of them are often each other's halves."""

MESSAGES = st.lists(
    st.builds(request_pb2.Message, role=st.sampled_from(["system", "user", "assistant"]), content=TEXTS), max_size=4
)
NAMES = st.sampled_from(["a", "ab", "b", "ba"])
"""Of tenants and models; two pairs of them run into one text."""

PARAMS = st.builds(
    request_pb2.Params,
    max_tokens=st.none() | st.integers(0, 2),
    temperature=st.none() | st.sampled_from([0.0, 0.5]),
    stop=st.lists(TEXTS, max_size=2),
)
REQUESTS = st.builds(request_pb2.Request, tenant=NAMES, messages=MESSAGES, params=PARAMS)

VECTOR = np.eye(1, 384, dtype=np.float32)[0]


def what_it_depends_on(request: request_pb2.Request, model: str) -> tuple[object, ...]:
    """The partition, spelled out."""
    users = [place for place, message in enumerate(request.messages) if message.role == "user"]
    asked = users[-1] if users else None
    others = [
        (place, message.role, None if place == asked else message.content)
        for place, message in enumerate(request.messages)
    ]
    params = [(field.name, str(value)) for field, value in request.params.ListFields()]
    return request.tenant, model, others, params


@given(REQUESTS, REQUESTS, NAMES, NAMES)
def test_two_requests_share_a_partition_if_all_but_the_asked_text_is_equal(
    one: request_pb2.Request, other: request_pb2.Request, model: str, other_model: str
) -> None:
    same = what_it_depends_on(one, model) == what_it_depends_on(other, other_model)
    assert (partition_of(one, model) == partition_of(other, other_model)) == same


@given(NAMES, NAMES, NAMES, NAMES)
def test_tenant_and_model_do_not_run_together(tenant: str, model: str, other_tenant: str, other_model: str) -> None:
    one, other = (request_pb2.Request(tenant=name, messages=asked().messages) for name in (tenant, other_tenant))
    same = (tenant, model) == (other_tenant, other_model)
    assert (partition_of(one, model) == partition_of(other, other_model)) == same


@given(REQUESTS, TEXTS)
def test_the_asked_text_is_no_part_of_the_partition_but_of_the_key(request: request_pb2.Request, text: str) -> None:
    assume(any(message.role == "user" for message in request.messages))
    assume(text != prompt_text(request))
    other = request_pb2.Request.FromString(request.SerializeToString())
    next(message for message in reversed(other.messages) if message.role == "user").content = text
    first, second = (question_of(each, "small", None, 384) for each in (request, other))
    assert first.partition == second.partition
    assert first.key != second.key


@given(REQUESTS)
def test_who_asks_again_under_another_id_asks_the_same(request: request_pb2.Request) -> None:
    again = request_pb2.Request.FromString(request.SerializeToString())
    again.id, again.tier = "another", request_pb2.TIER_OVERNIGHT
    again.metadata["batch"] = "2"
    again.cache.ttl_s = 5
    assert question_of(again, "small", None, 384).key == question_of(request, "small", None, 384).key


@pytest.mark.parametrize("name", [field.name for field in request_pb2.Params.DESCRIPTOR.fields])
def test_every_parameter_counts(name: str) -> None:
    plain = request_pb2.Request(messages=[request_pb2.Message(role="user", content="Where to?")])
    other = request_pb2.Request(messages=plain.messages)
    if name == "stop":
        other.params.stop.append("\n")
    else:
        # Also at zero: a parameter that is left out is another than one that is given.
        setattr(other.params, name, 0)
    assert partition_of(plain, "small") != partition_of(other, "small")


def test_a_text_is_not_normalised() -> None:
    assert answer_key("p", "caf\u00e9") != answer_key("p", "cafe\u0301")


@given(st.text(), st.text(), st.text(), st.text())
def test_no_two_keys_run_together(partition: str, text: str, other_partition: str, other_text: str) -> None:
    same = (partition, text) == (other_partition, other_text)
    assert (answer_key(partition, text) == answer_key(other_partition, other_text)) == same


def asked(text: str = "Where to?") -> request_pb2.Request:
    return request_pb2.Request(tenant="acme", messages=[request_pb2.Message(role="user", content=text)])


def test_a_vector_of_the_whole_text_is_compared() -> None:
    question = question_of(asked(), "small", pack(VECTOR, "embedder-1", READS_TOKENS), 384)
    assert question.vector is not None
    assert (question.embedder, question.exact_only) == ("embedder-1", "")


@pytest.mark.parametrize(
    ("request_", "embedding", "reason"),
    [
        (asked(), None, "no_embedding"),
        (asked(), pack(VECTOR, "embedder-1", READS_TOKENS + 1), "long_text"),
        # One word of any length is one token.
        (asked("x" * (MAX_TEXT_BYTES + 1)), pack(VECTOR, "embedder-1", 3), "long_text"),
        (asked(), pack(VECTOR, "", 3), "no_embedding"),
        (asked(), pack(VECTOR[:200], "embedder-1", 3), "no_embedding"),
        (asked(), pack(VECTOR * np.nan, "embedder-1", 3), "no_embedding"),
        (asked(), pack(VECTOR * 0, "embedder-1", 3), "no_embedding"),
    ],
)
def test_what_no_vector_stands_for_is_matched_exactly_only(
    request_: request_pb2.Request, embedding: envelope_pb2.Embedding | None, reason: str
) -> None:
    question = question_of(request_, "small", embedding, 384)
    assert question.vector is None
    assert (question.embedder, question.exact_only) == ("", reason)
    assert question.key == question_of(request_, "small", pack(VECTOR, "embedder-2", 3), 384).key
