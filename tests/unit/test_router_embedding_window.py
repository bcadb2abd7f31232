"""How much the embedder is asked at the same time follows how fast it answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millpond_router.embedding_window import LARGEST, PAUSE_S, SMALLEST, EmbeddingWindow

TIMEOUT_S = 0.25


@given(st.lists(st.tuples(st.integers(1, 64), st.none() | st.floats(0, TIMEOUT_S))))
def test_it_never_leaves_its_bounds_and_always_lets_one_call_through(calls: list[tuple[int, float | None]]) -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    for rows, took_s in calls:
        assert window.room(rows)
        window.asked(rows)
        if took_s is None:
            window.failed(rows, now=0)
        else:
            window.answered(rows, took_s)
        assert SMALLEST <= window.rows <= LARGEST


def test_calls_wait_once_it_is_full() -> None:
    window = EmbeddingWindow(TIMEOUT_S, rows=32)
    window.asked(20)
    assert window.room(12)
    assert not window.room(13)
    window.answered(20, TIMEOUT_S / 2)
    assert window.room(500), "what is larger than the window goes alone"


def test_it_settles_where_the_embedder_answers_in_time() -> None:
    """Of an embedder that does 200 rows a second, about 250 ms' worth and less is asked."""
    window = EmbeddingWindow(TIMEOUT_S)
    late = 0
    for _ in range(500):
        rows = int(window.rows)
        took_s = rows / 200
        window.asked(rows)
        if took_s > TIMEOUT_S:
            late += 1
            window.failed(rows, now=0)
        else:
            window.answered(rows, took_s)
    assert late == 0
    assert 10 <= window.rows <= 50


def test_a_fast_embedder_is_asked_more() -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    for _ in range(100):
        rows = int(window.rows)
        window.asked(rows)
        window.answered(rows, 0.01)
    assert window.rows == LARGEST


def test_one_that_is_away_is_left_alone_for_a_while() -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    now = 10.0
    while not window.closed(now):
        window.asked(8)
        window.failed(8, now)
    assert window.rows == SMALLEST
    assert window.closed(now + PAUSE_S - 0.01)
    assert not window.closed(now + PAUSE_S)
