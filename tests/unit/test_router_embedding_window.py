"""How much the embedder is asked at the same time follows how fast it answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.embedding_window import LARGEST, PAUSE_S, SILENT_S, SMALLEST, EmbeddingWindow

TIMEOUT_S = 0.25


class Embedder:
    """Does so many rows a second, one call after the other; None: it does not answer."""

    def __init__(self, rows_per_s: float | None, window: EmbeddingWindow) -> None:
        self.rows_per_s = rows_per_s
        self.window = window
        self.now = 100.0
        self.late = 0

    def ask(self, rows: int) -> None:
        took_s = TIMEOUT_S if self.rows_per_s is None else min(TIMEOUT_S, rows / self.rows_per_s)
        self.window.asked(rows, self.now)
        self.now += took_s
        if took_s < TIMEOUT_S:
            self.window.answered(rows, took_s)
        else:
            self.late += 1
            self.window.failed(rows, took_s, self.now)

    def ask_all_that_there_is_room_for(self, times: int) -> None:
        for _ in range(times):
            self.ask(int(self.window.rows))


@given(st.lists(st.tuples(st.integers(1, 64), st.none() | st.floats(0, TIMEOUT_S))))
def test_it_never_leaves_its_bounds_and_always_lets_one_call_through(calls: list[tuple[int, float | None]]) -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    for now, (rows, took_s) in enumerate(calls):
        assert window.room(rows)
        window.asked(rows, now)
        if took_s is None:
            window.failed(rows, TIMEOUT_S, now)
        else:
            window.answered(rows, took_s)
        assert SMALLEST <= window.rows <= LARGEST


def test_a_call_takes_half_of_it_so_that_another_is_on_its_way_meanwhile() -> None:
    window = EmbeddingWindow(TIMEOUT_S, rows=32)
    assert window.room(500) == 16
    window.asked(16, now=0)
    assert window.room(500) == 16
    window.asked(16, now=0)
    assert window.room(1) == 0, "it is full"
    window.answered(16, TIMEOUT_S / 2)
    assert window.room(500) == 16


def test_a_call_is_whole_or_takes_at_least_a_half_of_its_share() -> None:
    window = EmbeddingWindow(TIMEOUT_S, rows=32)
    window.asked(25, now=0)
    assert window.room(500) == 0, "7 of 16"
    assert window.room(7) == 7, "all that there is"
    window.answered(1, TIMEOUT_S / 2)
    assert window.room(500) == 8


@given(st.integers(1, 100), st.lists(st.integers(1, 100)))
def test_it_is_never_asked_for_more_than_it_holds(rows: int, wanted: list[int]) -> None:
    window = EmbeddingWindow(TIMEOUT_S, rows=max(rows, SMALLEST))
    asked = 0
    for each in wanted:
        if room := window.room(each):
            assert room <= each
            window.asked(room, now=0)
            asked += room
        assert asked <= window.rows


@pytest.mark.parametrize("rows_per_s", [20, 60, 200, 1000])
def test_it_settles_where_the_embedder_answers_in_time(rows_per_s: float) -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    embedder = Embedder(rows_per_s, window)
    embedder.ask_all_that_there_is_room_for(200)
    before = embedder.late
    embedder.ask_all_that_there_is_room_for(200)
    assert embedder.late == before
    assert window.rows <= rows_per_s * TIMEOUT_S
    assert not window.closed(embedder.now)


def test_a_fast_embedder_is_asked_more() -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    Embedder(100_000, window).ask_all_that_there_is_room_for(100)
    assert window.rows == LARGEST


def test_one_that_is_silent_is_away_and_is_left_alone_for_a_while_at_a_time() -> None:
    window = EmbeddingWindow(TIMEOUT_S, rows=LARGEST)
    embedder = Embedder(None, window)
    while not window.closed(embedder.now):
        embedder.ask(8)
    assert embedder.now - 100 == SILENT_S
    assert window.closed(embedder.now + PAUSE_S - 0.01)
    embedder.now += PAUSE_S
    assert not window.closed(embedder.now)
    embedder.ask(8)
    assert window.closed(embedder.now), "one more call is enough to know"
    embedder.now += PAUSE_S
    embedder.rows_per_s = 100
    embedder.ask_all_that_there_is_room_for(10)
    assert not window.closed(embedder.now)


def test_one_that_refuses_is_away_at_once() -> None:
    window = EmbeddingWindow(TIMEOUT_S)
    window.asked(8, now=5)
    window.failed(8, took_s=0.001, now=5)
    assert window.closed(5)
    assert not window.closed(5 + PAUSE_S)
