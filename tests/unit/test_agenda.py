"""An agenda gives each wanted job at its time, and keeps no more than is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from millpond_core.agenda import SWEPT_FROM, Agenda


@dataclass
class Job:
    at: float
    wanted: bool = True


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())), st.integers(0, 20))
def test_what_is_due_and_wanted_is_given_once_and_the_earliest_first(given_: list[tuple[int, bool]], now: int) -> None:
    agenda = Agenda[Job]()
    jobs = [Job(at, wanted) for at, wanted in given_]
    for job in jobs:
        agenda.add(job.at, job)
    expected = sorted((job for job in jobs if job.wanted and job.at <= now), key=lambda job: job.at)
    assert list(map(id, agenda.due(now))) == list(map(id, expected))
    assert agenda.due(now) == []


def test_a_job_of_which_one_changes_ones_mind_is_not_given() -> None:
    agenda, job = Agenda[Job](), Job(1)
    agenda.add(job.at, job)
    job.wanted = False
    assert agenda.due(2) == []


@given(st.integers(0, 3 * SWEPT_FROM))
def test_jobs_that_are_done_long_before_their_time_do_not_stay(living: int) -> None:
    agenda = Agenda[Job]()
    lasting = [Job(1e9) for _ in range(living)]
    for job in lasting:
        agenda.add(job.at, job)
    for _ in range(10 * SWEPT_FROM):
        job = Job(1e9)
        agenda.add(job.at, job)
        job.wanted = False
    assert len(agenda) <= max(2 * (living + 1), SWEPT_FROM)
    assert list(map(id, agenda.due(1e9))) == list(map(id, lasting))
