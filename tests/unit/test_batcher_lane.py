"""What becomes of the requests of one model: each is settled once, when its own row ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from batcher_triton import Triton, serving
from cache_served import served
from prometheus_client import REGISTRY

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.engine import Engine
from millpond_batcher.lane import Lane
from millpond_batcher.limit import Limit
from millpond_batcher.replica import Replica
from millpond_batcher.revival import Revival
from millpond_batcher.settings import BatcherSection, policy_of
from millpond_batcher.suspects import company_of
from millpond_cache.memory_store import MemoryStore
from millpond_core import topics
from millpond_core.batch_name import BatchName
from millpond_core.cache_client import Cache
from millpond_core.clock import SystemClock
from millpond_core.control import Word
from millpond_core.envelope import described
from millpond_core.errors import Code
from millpond_core.processor import OffsetMap, Partition, Record, Taken, Unread
from millpond_core.processor.processor import Assignment
from millpond_core.processor.unread import ROW
from millpond_core.result import Answer, Failure
from millpond_core.settings import ModelSettings, Settings
from millpond_core.stage import Forward, Job, Outcome, Retry
from millpond_core.telemetry import Tracing

PATIENCE_S = 60

PARTITION = Partition(topics.BATCH_REALTIME, 0)


class Pond:
    """A lane on a Triton, with what became of its jobs."""

    def __init__(
        self,
        triton: Triton,
        *others: Triton,
        model: Mapping[str, Any] | None = None,
        cache: str = "127.0.0.1:1",
        urgent: bool = False,
        **own: Any,
    ) -> None:
        """cache: the address of one; nobody is there unless it is given. urgent: whether urgent rows have a process of
        their own, the last replica."""
        update = {"chat_template": "{{ messages[-1].content }}", **(model or {})}
        small = Settings().model_of_role("small").model_copy(update=update)
        settings = BatcherSection.model_validate({"retry_first_s": 0.01, **own})
        self.triton = triton
        self.outcomes: dict[Job, list[Outcome]] = {}
        self._settled = asyncio.Condition()
        self._offsets = itertools.count()
        self._assignment = Assignment(PARTITION, OffsetMap(0, ""))
        self.crash: BaseException | None = None
        self.replicas = [replica(each, small, settings) for each in (triton, *others)]
        if urgent:
            self.replicas.append(replica(triton, small, settings, urgent=True))
        self.cache = Cache(cache, 60, Tracing())
        self.lane = Lane(
            small,
            self.replicas,
            policy=policy_of(Settings(), settings, small),
            settings=settings,
            settle=self._settle,
            cache=self.cache,
            clock=SystemClock(),
            tracing=Tracing(),
            opened=lambda _: self._changed(),
            crashed=self._crashed,
            large="large",
        )

    def job(self, prompt: str, tier: request_pb2.Tier = TIER_REALTIME, **asked: Any) -> Job:
        """asked: fields of the request. Its id is a number of its own."""
        number = next(self._offsets)
        fields: dict[str, Any] = {"id": str(number), "tenant": "acme", **asked}
        routed = envelope_pb2.Routed(
            request=request_pb2.Request(**fields, messages=[request_pb2.Message(role="user", content=prompt)]),
            decision=result_pb2.Decision(tier=tier),
        )
        now = SystemClock().now()
        record = Record(PARTITION, number, 0, b"acme/1", None, ())
        taken = Taken(record, self._assignment, now)
        return Job(taken, routed, Tracing().send(topics.BATCH_REALTIME, None), now + 3600)

    def start(self, prompt: str, tier: request_pb2.Tier = TIER_REALTIME, **asked: Any) -> Job:
        job = self.job(prompt, tier, **asked)
        self.lane.start([job])
        return job

    async def outcome(self, job: Job) -> Outcome:
        async with self._settled:
            async with asyncio.timeout(PATIENCE_S):
                await self._settled.wait_for(lambda: job in self.outcomes)
        (outcome,) = self.outcomes[job]
        return outcome

    async def until_answers(self, number: int) -> None:
        """Until the replica of that number is known to answer."""
        async with self._settled:
            answers = self._settled.wait_for(lambda: self.replicas[number].answers)
            async with asyncio.timeout(PATIENCE_S):
                await answers

    def _settle(self, job: Job, outcome: Outcome) -> bool:
        self.outcomes.setdefault(job, []).append(outcome)
        self._changed()
        return True

    def _changed(self) -> None:
        self._told = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _crashed(self, failure: BaseException) -> None:
        self.crash = failure


def replica(triton: Triton, model: ModelSettings, settings: BatcherSection, *, urgent: bool = False) -> Replica:
    name = "generator_urgent" if urgent else model.triton_model
    engine = Engine(triton.address, name)
    limit = Limit(model.max_rows, least=1, spare=0, target_s=settings.queue_target_s)
    return Replica(
        engine, Revival(engine, model.name, reload=settings.reload_models), limit, f"{name} at {triton.address}", urgent
    )


def answers(replica: Replica) -> float | None:
    return told(replica, "millpond_model_answers")


def told(replica: Replica, metric: str) -> float | None:
    """As Prometheus has it."""
    labels = {"model": Settings().model_of_role("small").name, "process": replica.name}
    return REGISTRY.get_sample_value(metric, labels)


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
    async with asyncio.timeout(PATIENCE_S):
        await drained
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


ALIKE: dict[str, Any] = {"params": request_pb2.Params(max_tokens=8)}


async def test_equal_requests_that_wait_are_one_row_and_each_has_its_result(pond: Pond) -> None:
    jobs = [pond.job("ok", **ALIKE) for _ in range(5)]
    pond.lane.start(jobs)
    outcomes = [await pond.outcome(job) for job in jobs]
    assert pond.triton.asked == ["ok"]
    assert all(isinstance(each, Answer) and each.output.text == "a mill 🦆" for each in outcomes)
    served = [each.served_by for each in outcomes if isinstance(each, Answer)]
    assert [each.route for each in served] == [result_pb2.ROUTE_SMALL, *[result_pb2.ROUTE_CACHE] * 4]
    assert {each.cache.source_id for each in served[1:]} == {jobs[0].routed.request.id}
    assert [each.code for each in jobs[1].routed.decision.reasons] == ["batch.same_request"]


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "globex"},
        {"params": request_pb2.Params(max_tokens=9)},
        {"params": request_pb2.Params(max_tokens=8, temperature=1)},
        {"cache": request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_BYPASS)},
        {"cache": request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_REFRESH)},
    ],
)
async def test_requests_that_want_their_own_answer_or_are_another_tenants_are_rows_of_their_own(
    pond: Pond, other: Mapping[str, Any]
) -> None:
    jobs = [pond.job("ok", **{**ALIKE, **other}), pond.job("ok", **ALIKE)]
    pond.lane.start(jobs)
    for job in jobs:
        outcome = await pond.outcome(job)
        assert isinstance(outcome, Answer)
        assert outcome.from_model
    assert pond.triton.asked == ["ok", "ok"]


async def test_a_row_goes_on_for_those_who_still_wait_for_it(pond: Pond) -> None:
    first, second = pond.start("hang", **ALIKE), pond.start("hang", **ALIKE)
    await pond.triton.until(lambda: pond.triton.running == 1)
    pond.lane.abandon([first])
    third = pond.start("ok")
    await pond.outcome(third)
    assert pond.triton.running == 1
    pond.lane.abandon([second])
    await pond.triton.until(lambda: pond.triton.running == 0)
    assert set(pond.outcomes) == {third}


async def test_a_realtime_request_makes_the_row_that_it_joins_go_at_once(pond: Pond) -> None:
    patient = pond.start("ok", TIER_OVERNIGHT, **ALIKE)
    urgent = pond.start("ok", **ALIKE)
    assert isinstance(await pond.outcome(urgent), Answer)
    assert isinstance(await pond.outcome(patient), Answer)
    assert pond.triton.asked == ["ok"]


async def test_what_an_equal_request_was_answered_while_it_waited_is_asked_of_no_model() -> None:
    async with serving(Triton()) as triton, served(MemoryStore()) as cache:
        pond = Pond(triton, cache=cache)
        jobs = [pond.job("ok", TIER_STANDARD, **ALIKE), pond.job("crowd", TIER_STANDARD, **ALIKE)]
        jobs[0].routed.decision.model = "small"
        async with grpc.aio.insecure_channel(cache) as channel:
            earlier = services_pb2.PutRequest(
                request=jobs[0].routed.request,
                model=jobs[0].routed.decision.model,
                output=result_pb2.Output(text="A mill."),
            )
            await services_pb2_grpc.CacheServiceStub(channel).Put(earlier)
        pond.lane.start(jobs)
        first, other = [await pond.outcome(job) for job in jobs]
        assert isinstance(first, Answer)
        assert (first.output.text, first.from_model) == ("A mill.", False)
        assert [each.code for each in jobs[0].routed.decision.reasons] == ["cache.exact.waited"]
        assert isinstance(other, Answer)
        assert other.from_model
        assert triton.asked == ["crowd"]
        await pond.lane.close()
        await pond.cache.close()


async def test_equal_requests_fail_together_and_are_counted_apart(pond: Pond) -> None:
    jobs = [pond.job("engine_error: the row does not fit", **ALIKE) for _ in range(2)]
    pond.lane.start(jobs)
    assert all([isinstance(await pond.outcome(job), Retry) for job in jobs])
    assert len(pond.triton.asked) == 1


async def test_a_request_that_no_batch_can_hold_is_refused_and_its_neighbours_are_answered() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, model={"max_batch_tokens": 1000})
        long = pond.job("ok", params=request_pb2.Params(max_tokens=1000))
        short = pond.job("ok")
        pond.lane.start([long, short])
        outcome = await pond.outcome(long)
        assert isinstance(outcome, Failure)
        assert outcome.error.code == Code.CONTEXT_LENGTH_EXCEEDED
        assert not outcome.error.retryable
        assert isinstance(await pond.outcome(short), Answer)
        await pond.lane.close()


async def test_rows_without_a_sensible_answer_are_tried_again_and_their_neighbours_are_answered(pond: Pond) -> None:
    """No response, another row's, half a text, bytes that are none, no counts: all in one batch with good ones."""
    senseless = ("nothing", "another's", "garbled", "not-utf8", "uncounted")
    bad = [pond.job(word, TIER_STANDARD) for word in senseless]
    good = [pond.job(f"{number}\nok", TIER_STANDARD) for number in range(5)]
    pond.lane.start([job for pair in zip(bad, good, strict=True) for job in pair])
    assert [type(await pond.outcome(job)) for job in good] == [Answer] * len(good)
    for job in bad:
        outcome = await pond.outcome(job)
        assert isinstance(outcome, Retry)
        assert outcome.attempt is not None
        assert outcome.attempt.error.code == Code.ENGINE_ERROR


async def test_rows_of_a_replica_that_dies_are_answered_by_the_other_and_say_so() -> None:
    either = asyncio.Condition()
    async with (
        serving(Triton(hangs=True, revives=False, changed=either)) as first,
        serving(Triton(changed=either)) as second,
    ):
        pond = Pond(first, second)
        second.state = "loading"
        await pond.until_answers(0)
        jobs = [pond.start(f"{number}\nok") for number in range(4)]
        await first.until(lambda: first.running + len(second.asked) == 4)
        second.state = "ready"
        await pond.until_answers(1)
        first.die()
        for job in jobs:
            assert isinstance(await pond.outcome(job), Answer)
        failed = [each.error.code for job in jobs for each in job.routed.attempts]
        assert failed == [Code.ENGINE_UNAVAILABLE] * len(first.asked)
        await pond.lane.close()


async def test_the_row_that_kills_the_model_is_found_and_all_others_are_answered() -> None:
    rows = 16
    async with serving(Triton()) as triton:
        pond = Pond(triton, model={"max_rows": rows}, reserved_rows=0)
        words = ["poison" if number == 5 else "crowd" for number in range(rows)]
        jobs = [pond.job(f"{number}\n{word}", TIER_STANDARD) for number, word in enumerate(words)]
        waiting, deaths = jobs, 0
        while waiting:
            triton.crowd = company_of(deaths, rows)
            pond.lane.start(waiting)
            outcomes = {job: await pond.outcome(job) for job in waiting}
            waiting = [job for job, outcome in outcomes.items() if isinstance(outcome, Retry)]
            for job in waiting:
                # As the stage does with what it sends to the topic's end.
                outcome = pond.outcomes.pop(job)[0]
                assert isinstance(outcome, Retry)
                job.routed.attempts.append(outcome.attempt)
            deaths += 1
        await pond.lane.close()
    poison = pond.outcomes.pop(jobs[5])[0]
    assert isinstance(poison, Failure)
    assert (poison.error.code, poison.dead_letter) == (Code.POISON, True)
    assert [type(outcome) for (outcome,) in pond.outcomes.values()] == [Answer] * (rows - 1)
    # Sixteen, eight, four, two, and twice alone.
    assert len(jobs[5].routed.attempts) == 6


@pytest.mark.parametrize(("state", "model"), [("ready", "generator_urgent"), ("absent", "generator")])
async def test_urgent_rows_go_to_the_process_that_is_theirs_where_it_answers(state: str, model: str) -> None:
    async with serving(Triton(urgent_state=state)) as triton:
        pond = Pond(triton, urgent=True)
        for number in range(2 if state == "ready" else 1):
            await pond.until_answers(number)
        for tier in (TIER_REALTIME, TIER_STANDARD):
            assert isinstance(await pond.outcome(pond.start(f"{tier}\nok", tier)), Answer)
        assert triton.models == [model, "generator"]
        assert triton.control == []
        await pond.lane.close()


async def test_either_tier_is_answered_while_the_process_of_the_other_is_away() -> None:
    async with serving(Triton(revives=False)) as triton:
        pond = Pond(triton, urgent=True, standard_wait_s=0)
        for number in range(2):
            await pond.until_answers(number)
        held = pond.start("held\nhang", TIER_STANDARD)
        await triton.until(lambda: triton.running == 1)
        triton.die()
        # A suspect from here on, as soon as it is sent again.
        outcome = await pond.outcome(held)
        assert isinstance(outcome, Retry)
        held.routed.attempts.append(outcome.attempt)
        pond.outcomes.pop(held)
        pond.lane.start([held])
        assert isinstance(await pond.outcome(pond.start("1\nok")), Answer)
        assert triton.models[-1] == "generator_urgent"

        assert [answers(replica) for replica in pond.replicas] == [0, 1]

        triton.state, triton.urgent_state = "ready", "dead"
        await pond.until_answers(0)
        pond.lane.abandon([held])
        assert isinstance(await pond.outcome(pond.start("2\nok", TIER_STANDARD)), Answer)
        job = pond.start("3\nok")
        assert isinstance(await pond.outcome(job), Answer)
        assert triton.models[-1] == "generator"
        assert [each.error.code for each in job.routed.attempts] == [Code.ENGINE_UNAVAILABLE]
        assert [answers(replica) for replica in pond.replicas] == [1, 0]
        await pond.lane.close()
        assert pond.crash is None


async def test_urgent_rows_do_not_wait_for_suspects_that_are_not() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, urgent=True, standard_wait_s=0)
        for number in range(2):
            await pond.until_answers(number)
        suspect = pond.job("suspect\nhang", TIER_STANDARD)
        suspect.routed.attempts.add(
            model=Settings().model_of_role("small").name, error=result_pb2.Error(code=Code.ENGINE_UNAVAILABLE)
        )
        pond.lane.start([suspect])
        await triton.until(lambda: triton.running == 1)
        assert pond.replicas[0].apart
        assert isinstance(await pond.outcome(pond.start("1\nok")), Answer)
        pond.lane.abandon([suspect])
        await pond.lane.close()


async def test_what_the_engine_said_of_its_queue_lowers_what_it_is_given(pond: Pond) -> None:
    limit = pond.replicas[0].limit
    before = limit.rows
    await pond.outcome(pond.start("queued", TIER_STANDARD))
    assert told(pond.replicas[0], "millpond_model_rows") == limit.rows < before


async def test_places_and_tokens_are_given_back_whatever_became_of_a_row(pond: Pond) -> None:
    jobs = [pond.start(word) for word in ("ok", "garbled", "invalid_params: no", "hang")]
    for job in jobs[:3]:
        await pond.outcome(job)
    pond.lane.abandon(jobs[3:])
    await pond.triton.until(lambda: pond.triton.running == 0)
    await pond.lane.drain()
    assert (pond.replicas[0].rows, pond.replicas[0].tokens) == (0, 0)


CHECKED: dict[str, Any] = {
    "checks": {
        "polite": {"refusal": True},
        "twice": {"refusal": True, "retry": True},
        "sure": {"min_mean_logprob": -2},
    },
    "canary_rows": 4,
}


async def test_an_answer_that_fails_its_check_goes_to_the_large_model_with_the_reason() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        job = pond.start("declines", metadata={"checks": "polite"})
        outcome = await pond.outcome(job)
        assert isinstance(outcome, Forward)
        assert (outcome.topic, outcome.routed.decision.model) == (topics.FRONTIER, "large")
        assert outcome.routed.decision.route == result_pb2.ROUTE_FRONTIER
        assert [each.code for each in outcome.routed.decision.reasons] == ["quality.refusal"]
        (attempt,) = outcome.routed.attempts
        assert attempt.error.code == Code.QUALITY_CHECK_FAILED
        assert (attempt.usage.input_tokens, attempt.usage.output_tokens) == (3, 2)
        assert isinstance(await pond.outcome(pond.start("ok", metadata={"checks": "polite"})), Answer)
        await pond.lane.close()


async def test_an_answer_that_fails_its_check_does_not_go_to_a_model_that_a_rule_forbids() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        job = pond.job("declines", metadata={"checks": "polite"})
        job.routed.decision.forbidden.append("large")
        pond.lane.start([job])
        outcome = await pond.outcome(job)
        assert isinstance(outcome, Failure)
        assert outcome.error.code == Code.QUALITY_CHECK_FAILED
        await pond.lane.close()


async def test_an_answer_is_asked_for_once_more_where_its_checks_say_so_and_in_other_words() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        outcome = await pond.outcome(pond.start("declines", metadata={"checks": "twice"}))
        assert isinstance(outcome, Forward)
        assert len(outcome.routed.attempts) == 2
        assert [each["temperature"] for each in triton.sampling] == [0, 0.7]
        await pond.lane.close()


async def test_what_fails_its_check_too_near_its_deadline_is_an_error() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED, escalate_s=7200)
        outcome = await pond.outcome(pond.start("declines", metadata={"checks": "twice"}))
        assert isinstance(outcome, Failure)
        assert outcome.error.code == Code.QUALITY_CHECK_FAILED
        await pond.lane.close()


async def test_equal_requests_pay_for_the_answer_that_failed_once() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        jobs = [pond.job("declines", metadata={"checks": "polite"}) for _ in range(2)]
        pond.lane.start(jobs)
        outcomes = [await pond.outcome(job) for job in jobs]
        assert all(isinstance(each, Forward) for each in outcomes)
        assert sum(each.usage.output_tokens for job in jobs for each in job.routed.attempts) == 2
        await pond.lane.close()


async def test_a_log_probability_that_is_no_number_fails_nobody() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        sure = {"checks": "sure"}
        assert isinstance(await pond.outcome(pond.start("nan", metadata=sure)), Answer)
        assert isinstance(await pond.outcome(pond.start("unlikely", metadata=sure)), Forward)
        assert {each["logprobs"] for each in triton.sampling} == {1}
        await pond.lane.close()


async def test_checks_that_are_not_configured_are_named() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        outcome = await pond.outcome(pond.start("ok", metadata={"checks": "sharp"}))
        assert isinstance(outcome, Failure)
        assert "polite, sure, twice" in outcome.error.message
        await pond.lane.close()


def of_batch(pond: Pond, word: str, count: int, tenant: str = "acme", batch: str = "march") -> list[Job]:
    return [
        pond.job(f"{number}\n{word}", tenant=tenant, metadata={"checks": "polite", "batch": batch})
        for number in range(count)
    ]


async def test_the_rest_of_a_batch_whose_first_answers_fail_is_held_until_it_is_resumed() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        jobs, others = of_batch(pond, "declines", 12), of_batch(pond, "ok", 12, "globex")
        pond.lane.start([*jobs, *others])
        for job in [*jobs[:4], *others]:
            await pond.outcome(job)
        assert triton.asked.count("declines") == 4
        assert not any(job in pond.outcomes for job in jobs[4:])
        # What is held can be left, moved or cancelled like anything that waits.
        assert pond.lane.release(jobs[-1])
        pond.lane.abandon([jobs[-2]])
        pond.lane.told(BatchName("acme", "march"), "resume")
        for job in jobs[4:-2]:
            assert isinstance(await pond.outcome(job), Forward)
        assert triton.asked.count("declines") == 10
        await pond.lane.close()


def held_batches() -> float | None:
    model = Settings().model_of_role("small").name
    return REGISTRY.get_sample_value("millpond_held_batches", {"model": model})


async def test_a_batch_is_said_to_be_held_with_what_to_do_and_no_longer_once_somebody_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        words: Mapping[str, Word] = {"march": "resume", "may": "cancel"}
        for batch, word in words.items():
            caplog.clear()
            jobs = of_batch(pond, "declines", 4, batch=batch)
            pond.lane.start(jobs)
            for job in jobs:
                await pond.outcome(job)
            assert f"./millpond {word} " in caplog.text
            assert batch in caplog.text
            assert held_batches() == 1
            pond.lane.told(BatchName("acme", batch), word)
            assert held_batches() == 0
        await pond.lane.close()


def row_of(offset: int, tenant: str, due_s: float, *, model: str = "", batch: bytes = b"") -> tuple[int, ...]:
    """due_s: seconds from now."""
    headers = (
        ("tenant", tenant.encode()),
        ("deadline-ms", str(int((SystemClock().now() + due_s) * 1000)).encode()),
        ("tier", b"overnight"),
        ("tokens", b"100"),
        ("model", (model or Settings().model_of_role("small").name).encode()),
        ("batch", batch),
    )
    return described(Record(PARTITION, offset, 0, b"", None, headers))


async def test_of_what_waits_unread_a_lane_asks_for_what_it_would_send_next() -> None:
    """Its own model's, no held batch's; a tenant's that has nothing here, and what is due earlier than all that is."""
    async with serving(Triton(state="loading")) as triton:
        pond = Pond(triton, model={"max_rows": 4})
        pond.lane.start([pond.job(f"{number}\nok", TIER_OVERNIGHT) for number in range(8)])
        unread = Unread()
        rows = [
            row_of(10, "acme", 5000),
            row_of(11, "globex", 5000),
            row_of(12, "globex", 5000, model="other"),
            row_of(13, "globex", 5000, batch=b"march"),
            row_of(14, "acme", 600),
        ]
        unread.append(np.array(rows, ROW))
        assert await pond.lane.ahead(unread, [b"globex/march"], 10) == [11, 14]
        # It was looked through a moment ago.
        assert not await pond.lane.ahead(unread, [], 10)
        await pond.lane.close()


async def test_a_canary_that_is_cancelled_lets_another_take_its_place() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        hanging, jobs = of_batch(pond, "hang", 4), of_batch(pond, "ok", 5)
        pond.lane.start([*hanging, *jobs])
        await triton.until(lambda: triton.running == 4)
        pond.lane.abandon(hanging)
        for job in jobs:
            assert isinstance(await pond.outcome(job), Answer)
        await pond.lane.close()


async def test_an_equal_request_of_no_batch_neither_waits_for_one_nor_stands_for_it() -> None:
    async with serving(Triton()) as triton:
        pond = Pond(triton, **CHECKED)
        jobs = of_batch(pond, "declines", 6)
        pond.lane.start(jobs)
        for job in jobs[:4]:
            await pond.outcome(job)
        held = jobs[4]
        alone = pond.job("4\ndeclines", tenant="acme", metadata={"checks": "polite"})
        pond.lane.start([alone])
        assert isinstance(await pond.outcome(alone), Forward)
        pond.lane.abandon([held])
        pond.lane.told(BatchName("acme", "march"), "resume")
        assert isinstance(await pond.outcome(jobs[5]), Forward)
        assert pond.crash is None
        await pond.lane.close()


async def test_rows_that_hang_on_a_replica_that_is_away_take_no_places_of_the_others() -> None:
    async with serving(Triton(hangs=True, revives=False)) as first, serving(Triton()) as second:
        pond = Pond(first, second, model={"max_rows": 8}, reserved_rows=0, refill_rows=1, standard_wait_s=0)
        second.state = "loading"
        await pond.until_answers(0)
        pond.lane.start([pond.job(f"{number}\nok", TIER_STANDARD) for number in range(8)])
        await first.until(lambda: first.running == 8)
        second.state = "ready"
        await pond.until_answers(1)
        # It is asked no more, and what it has stays there until its time is over.
        first.state = "loading"
        pond.replicas[0].revive(lambda: None, lambda _: None)
        jobs = [pond.job(f"{number + 8}\nok", TIER_STANDARD) for number in range(8)]
        pond.lane.start(jobs)
        for job in jobs:
            assert isinstance(await pond.outcome(job), Answer)
        await pond.lane.close()


async def test_no_replica_holds_more_tokens_than_it_may_though_all_together_have_room() -> None:
    either = asyncio.Condition()
    async with (
        serving(Triton(hangs=True, changed=either)) as first,
        serving(Triton(hangs=True, changed=either)) as second,
    ):
        pond = Pond(first, second, model={"max_batch_tokens": 1000}, reserved_rows=0, refill_rows=1, standard_wait_s=0)
        for number in range(2):
            await pond.until_answers(number)
        params = request_pb2.Params(max_tokens=600)
        pond.lane.start([pond.job(f"{number}\nok", TIER_STANDARD, params=params) for number in range(4)])
        await first.until(lambda: first.running + second.running == 2)
        assert all(0 < replica.tokens <= 1000 for replica in pond.replicas)
        await pond.lane.close()
