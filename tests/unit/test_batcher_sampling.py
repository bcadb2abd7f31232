"""What the engine is told of a request's parameters."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import request_pb2
from millpond_batcher.sampling import max_tokens, sampling

CONTEXT = 2048


def request(text: str = "What is a mill?", **params: float) -> request_pb2.Request:
    made = request_pb2.Request(messages=[request_pb2.Message(role="user", content=text)])
    for name, value in params.items():
        setattr(made.params, name, value)
    return made


def test_a_request_that_names_nothing_is_answered_the_same_every_time() -> None:
    assert json.loads(sampling(request(), CONTEXT)) == {"max_tokens": 128, "temperature": 0}


def test_every_parameter_that_is_named_is_handed_on() -> None:
    asked = request(max_tokens=7, temperature=0.5, top_p=0.9, top_k=5, seed=1 << 62, min_tokens=0)
    asked.params.presence_penalty = -1
    asked.params.frequency_penalty = 0
    asked.params.repetition_penalty = 1.5
    asked.params.stop.extend(["\n", "END"])
    told = json.loads(sampling(asked, CONTEXT))
    assert told == {
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 1 << 62,
        "min_tokens": 0,
        "presence_penalty": -1,
        "frequency_penalty": 0,
        "repetition_penalty": 1.5,
        "stop": ["\n", "END"],
    }
    assert set(told) == {field.name for field in request_pb2.Params.DESCRIPTOR.fields}


def test_an_adapter_goes_by_the_name_that_vllm_knows_it_by() -> None:
    told = json.loads(sampling(request(), CONTEXT, "bank"))
    assert told == {"max_tokens": 128, "temperature": 0, "lora_name": "bank"}


def test_log_probabilities_are_asked_for_only_where_a_check_wants_them() -> None:
    assert json.loads(sampling(request(), CONTEXT, logprobs=True))["logprobs"] == 1
    assert "logprobs" not in json.loads(sampling(request(), CONTEXT))


@given(st.integers(0, 1 << 31))
def test_a_length_that_is_named_is_never_changed(count: int) -> None:
    assert max_tokens(request(max_tokens=count), CONTEXT) == count


@given(st.integers(0, 20_000), st.integers(1, 10_000))
def test_the_default_length_is_at_least_a_token_and_at_most_the_context(characters: int, context: int) -> None:
    assert 1 <= max_tokens(request("a" * characters), context) <= min(128, context)
