"""Vectors as they travel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from millpond.v1.request_pb2 import Message, Request
from millpond_core.embedding import READS_TOKENS, cosine, pack, prompt_text, reads_all, unpack

DIMENSION = 384


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


vectors = (
    arrays.arrays(np.float32, DIMENSION, elements=st.floats(-1, 1, width=32))
    .filter(lambda vector: float(np.linalg.norm(vector)) > 0.1)
    .map(unit)
)


@given(vectors)
def test_a_vector_survives_its_travel(vector: NDArray[np.float32]) -> None:
    packed = pack(vector, "v", 3)
    assert len(packed.vector) == 2 * DIMENSION
    np.testing.assert_allclose(unpack(packed), vector, atol=5e-4)
    assert cosine(packed, pack(vector, "v", 3)) == pytest.approx(1, abs=1e-6)


@given(vectors, vectors)
def test_a_cosine_is_that_of_the_vectors(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    packed, against = pack(one, "v", 3), pack(other, "v", 3)
    assert cosine(packed, against) == pytest.approx(float(one @ other), abs=2e-3)
    assert -1 <= cosine(packed, against) == cosine(against, packed) <= 1


def test_vectors_of_two_versions_are_not_compared() -> None:
    vector = unit(np.ones(DIMENSION, np.float32))
    with pytest.raises(ValueError, match="cannot be compared"):
        cosine(pack(vector, "old", 3), pack(vector, "new", 3))


def test_a_text_is_read_whole_up_to_what_the_embedder_reads() -> None:
    vector = unit(np.ones(DIMENSION, np.float32))
    assert reads_all(pack(vector, "v", READS_TOKENS))
    assert not reads_all(pack(vector, "v", READS_TOKENS + 1))


@pytest.mark.parametrize(
    ("roles", "index"),
    [(["user"], 0), (["system", "user"], 1), (["user", "assistant", "user"], 2), (["user", "assistant"], 0)],
)
def test_what_is_embedded_is_the_users_last_message(roles: list[str], index: int) -> None:
    messages = [Message(role=role, content=f"message {number}") for number, role in enumerate(roles)]
    assert prompt_text(Request(messages=messages)) == f"message {index}"


def test_without_a_users_message_nothing_is_embedded() -> None:
    assert prompt_text(Request(messages=[Message(role="system", content="Be brief.")])) == ""
