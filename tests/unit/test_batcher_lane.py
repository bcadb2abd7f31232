"""What becomes of the requests of one model: each is settled once, when its own row ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest_asyncio
from batcher_triton import Triton, serving

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME
from millpond_batcher.engine import Engine
from millpond_batcher.lane import Lane
from millpond_batcher.settings import BatcherSection
from millpond_core import topics
from millpond_core.clock import SystemClock
from millpond_core.errors import Code
from millpond_core.processor import OffsetMap, Partition, Record, Taken
from millpond_core.processor.processor import Assignment
from millpond_core.result import Answer, Failure
from millpond_core.settings import Settings
from millpond_core.stage import Job, Outcome, Retry
from millpond_core.telemetry import Tracing

PATIENCE_S = 60

PARTITION = Partition(topics.BATCH_REALTIME, 0)


class Pond:
    """A lane on a Triton, with what became of its jobs."""

    def __init__(self, triton: Triton, **settings: int) -> None:
        model = Settings().model_of_role("small").model_copy(update={"chat_template": "{{ messages[0].content }}"})
        self.triton = triton
        self.outcomes: dict[Job, list[Outcome]] = {}
        self._settled = asyncio.Condition()
        self._offsets = itertools.count()
        self._assignment = Assignment(PARTITION, OffsetMap(0, ""))
        self.crash: BaseException | None = None
        self.lane = Lane(
            model,
            Engine(triton.address, model.triton_model),
            settings=BatcherSection.model_validate({"retry_first_s": 0.01, **settings}),
            settle=self._settle,
            clock=SystemClock(),
            tracing=Tracing(),
            opened=lambda: None,
            crashed=self._crashed,
        )

    def job(self, prompt: str, tier: request_pb2.Tier = TIER_REALTIME) -> Job:
        routed = envelope_pb2.Routed(
            request=request_pb2.Request(messages=[request_pb2.Message(role="user", content=prompt)]),
            decision=result_pb2.Decision(tier=tier),
        )
        now = SystemClock().now()
        record = Record(PARTITION, next(self._offsets), 0, b"acme/1", None, ())
        taken = Taken(record, self._assignment, now)
        return Job(taken, routed, Tracing().send(topics.BATCH_REALTIME, None), now + 3600)

    def start(self, prompt: str, tier: request_pb2.Tier = TIER_REALTIME) -> Job:
        job = self.job(prompt, tier)
        self.lane.start([job])
        return job

    async def outcome(self, job: Job) -> Outcome:
        async with self._settled:
            await asyncio.wait_for(self._settled.wait_for(lambda: job in self.outcomes), PATIENCE_S)
        (outcome,) = self.outcomes[job]
        return outcome

    def _settle(self, job: Job, outcome: Outcome) -> bool:
        self.outcomes.setdefault(job, []).append(outcome)
        self._told = asyncio.create_task(self._tell())
        return True

    async def _tell(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _crashed(self, failure: BaseException) -> None:
        self.crash = failure


@pytest_asyncio.fixture
async def pond() -> AsyncGenerator[Pond]:
    async with serving(Triton()) as triton:
        pond = Pond(triton, max_attempts=3)
        yield pond
        await pond.lane.close()
        assert pond.crash is None


async def test_an_answer_is_given_while_its_neighbour_still_runs(pond: Pond) -> None:
    slow, quick = pond.job("hang"), pond.job("ok")
    pond.lane.start([slow, quick])
    outcome = await pond.outcome(quick)
    assert isinstance(outcome, Answer)
    assert outcome.output.text == "a mill 🦆"
    assert slow not in pond.outcomes


async def test_only_what_waits_can_be_released_and_it_is_never_sent(pond: Pond) -> None:
    running = pond.start("hang")
    waiting = pond.start("ok", TIER_OVERNIGHT)
    await pond.triton.until(lambda: pond.triton.running == 1)
    assert not pond.lane.release(running)
    assert pond.lane.release(waiting)
    assert not pond.lane.release(waiting)


async def test_what_nobody_waits_for_is_cancelled_in_triton_and_never_settled(pond: Pond) -> None:
    running = pond.start("hang")
    waiting = pond.start("ok", TIER_OVERNIGHT)
    await pond.triton.until(lambda: pond.triton.running == 1)
    pond.lane.abandon([running, waiting])
    await pond.triton.until(lambda: pond.triton.running == 0)
    assert not pond.lane.release(waiting)
    assert pond.outcomes == {}


async def test_a_drain_ends_with_the_rows_that_run_and_leaves_what_waits(pond: Pond) -> None:
    running = pond.start("hang")
    waiting = pond.start("ok", TIER_OVERNIGHT)
    await pond.triton.until(lambda: pond.triton.running == 1)
    drained = asyncio.create_task(pond.lane.drain())
    pond.lane.abandon([running])
    await asyncio.wait_for(drained, PATIENCE_S)
    late = pond.start("ok")
    assert pond.lane.release(waiting)
    assert pond.lane.release(late)


async def test_a_failed_call_is_retried_later_and_at_last_is_the_result(pond: Pond) -> None:
    job = pond.job("engine_error: the row does not fit")
    for _ in range(2):
        pond.lane.start([job])
        outcome = await pond.outcome(job)
        assert isinstance(outcome, Retry)
        assert outcome.not_before_s > job.taken.taken_at
        assert outcome.attempt.error.code == Code.ENGINE_ERROR
        # As the stage does with what it sends to the topic's end.
        job.routed.attempts.append(outcome.attempt)
        pond.outcomes.clear()
    pond.lane.start([job])
    outcome = await pond.outcome(job)
    assert isinstance(outcome, Failure)
    assert outcome.error.code == Code.ENGINE_ERROR
    assert len(job.routed.attempts) == 3


async def test_a_refusal_is_the_result_at_once(pond: Pond) -> None:
    outcome = await pond.outcome(pond.start("invalid_params: top_k must be more"))
    assert isinstance(outcome, Failure)
    assert outcome.error.code == Code.INVALID_PARAMS


async def test_requests_that_come_while_the_model_is_away_wait_and_are_answered_when_it_is_back() -> None:
    async with serving(Triton(state="loading")) as triton:
        pond = Pond(triton)
        jobs = [pond.start("ok") for _ in range(3)]
        triton.state = "ready"
        assert all([isinstance(await pond.outcome(job), Answer) for job in jobs])
        await pond.lane.close()
