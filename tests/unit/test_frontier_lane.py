"""The requests of one large model, over a real endpoint: equal ones are asked once, and each is settled once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest_asyncio
from aiohttp import web
from cache_served import served
from provider_served import listening

from millpond.v1 import envelope_pb2, request_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_cache.memory_store import MemoryStore
from millpond_core import topics
from millpond_core.cache_client import Cache
from millpond_core.clock import SystemClock
from millpond_core.errors import Code
from millpond_core.processor import OffsetMap, Partition, Record, Taken
from millpond_core.processor.processor import Assignment
from millpond_core.result import Answer, Failure
from millpond_core.settings import Settings
from millpond_core.stage import Job, Outcome, Retry
from millpond_core.telemetry import Tracing
from millpond_frontier.attempt import CallFailed, attempt_of
from millpond_frontier.lane import Lane
from millpond_frontier.provider import Provider
from millpond_frontier.settings import FrontierSection

PATIENCE_S = 60
PARTITION = Partition(topics.FRONTIER, 0)


class Endpoint:
    """An OpenAI-compatible one that answers when its gate is open, and refuses while it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.refuses = False

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body["messages"][-1]["content"])
        self.arrived.set()
        await self.gate.wait()
        if self.refuses:
            return web.json_response({"error": {"message": "broken"}}, status=500)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A mill."}}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )


class Office:
    """A lane on an endpoint, with what became of its jobs."""

    def __init__(self, url: str, cache: str) -> None:
        self.outcomes: dict[Job, list[Outcome]] = {}
        self._settled = asyncio.Condition()
        self._offsets = itertools.count()
        self._assignment = Assignment(PARTITION, OffsetMap(0, ""))
        own = FrontierSection(concurrency=1)
        self.provider = Provider(Settings().model_of_role("frontier"), url, own, Tracing())
        self.cache = Cache(cache, PATIENCE_S, Tracing())
        self.lane = Lane(self.provider, own, self._settle, cache=self.cache, clock=SystemClock(), crashed=self._crashed)

    def job(self, prompt: str, **asked: Any) -> Job:
        number = next(self._offsets)
        message = request_pb2.Message(role="user", content=prompt)
        request = request_pb2.Request(id=str(number), tenant="acme", messages=[message], **asked)
        decision = result_pb2.Decision(tier=request_pb2.TIER_STANDARD, model="large")
        now = SystemClock().now()
        taken = Taken(Record(PARTITION, number, 0, b"acme/1", None, ()), self._assignment, now)
        routed = envelope_pb2.Routed(request=request, decision=decision)
        return Job(taken, routed, Tracing().send(topics.FRONTIER, None), now + 3600)

    async def outcome(self, job: Job) -> Outcome:
        async with self._settled:
            async with asyncio.timeout(PATIENCE_S):
                await self._settled.wait_for(lambda: job in self.outcomes)
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
        raise failure

    async def close(self) -> None:
        await self.lane.close()
        await self.provider.close()
        await self.cache.close()


@pytest_asyncio.fixture
async def endpoint() -> Endpoint:
    return Endpoint()


@pytest_asyncio.fixture
async def office(endpoint: Endpoint) -> AsyncGenerator[Office]:
    """No cache is there."""
    async with listening(endpoint.chat) as url:
        office = Office(url, "127.0.0.1:1")
        yield office
        await office.close()


async def test_equal_requests_are_asked_once_whether_they_wait_or_one_runs(endpoint: Endpoint, office: Office) -> None:
    jobs = [office.job("How deep?") for _ in range(3)]
    office.lane.start(jobs[:2])
    async with asyncio.timeout(PATIENCE_S):
        await endpoint.arrived.wait()
    office.lane.start(jobs[2:])
    endpoint.gate.set()
    answers = [await office.outcome(job) for job in jobs]
    assert [isinstance(each, Answer) and each.output.text for each in answers] == ["A mill."] * 3
    assert [isinstance(each, Answer) and each.from_model for each in answers] == [True, False, False]
    assert endpoint.asked == ["How deep?"]
    assert [each.code for each in jobs[2].routed.decision.reasons] == ["batch.same_request"]


async def test_requests_that_want_their_own_answer_are_asked_each(endpoint: Endpoint, office: Office) -> None:
    endpoint.gate.set()
    refresh = request_pb2.CacheOptions(mode=request_pb2.CACHE_MODE_REFRESH)
    jobs = [
        office.job("How deep?"),
        office.job("How deep? "),
        office.job("How deep?", cache=refresh),
        office.job("How deep?", params=request_pb2.Params(temperature=0.5)),
    ]
    office.lane.start(jobs)
    answers = [await office.outcome(job) for job in jobs]
    assert all(isinstance(each, Answer) and each.from_model for each in answers)
    assert len(endpoint.asked) == len(jobs)


async def test_the_call_goes_on_for_whoever_still_waits_and_ends_with_the_last(
    endpoint: Endpoint, office: Office
) -> None:
    first, second = office.job("How deep?"), office.job("How deep?")
    office.lane.start([first, second])
    async with asyncio.timeout(PATIENCE_S):
        await endpoint.arrived.wait()
    office.lane.abandon([first])
    endpoint.gate.set()
    answer = await office.outcome(second)
    assert isinstance(answer, Answer)
    assert answer.from_model
    assert first not in office.outcomes


async def test_a_failed_call_is_paid_once_and_tried_again_for_each(endpoint: Endpoint, office: Office) -> None:
    endpoint.refuses = True
    endpoint.gate.set()
    jobs = [office.job("How deep?") for _ in range(2)]
    office.lane.start(jobs)
    outcomes = [await office.outcome(job) for job in jobs]
    assert all(isinstance(each, Retry) for each in outcomes)
    assert len(endpoint.asked) == 1


async def test_calls_that_met_a_rate_limit_leave_a_request_its_tries(endpoint: Endpoint, office: Office) -> None:
    endpoint.refuses = True
    endpoint.gate.set()
    limited = CallFailed(Code.RATE_LIMITED, "the provider's rate limit is reached", retryable=True, away=True)
    broken = CallFailed(Code.PROVIDER_ERROR, "the provider's answer has no text", retryable=True)
    waited, tried = office.job("How deep?"), office.job("How wide?")
    for job, failure in ((waited, limited), (tried, broken)):
        job.routed.attempts.extend([attempt_of(office.provider.model.name, failure, 0.25)] * 3)
    office.lane.start([waited, tried])
    assert isinstance(await office.outcome(waited), Retry)
    assert isinstance(await office.outcome(tried), Failure)


async def test_what_waits_can_be_released_alone(endpoint: Endpoint, office: Office) -> None:
    running, waiting, other = office.job("How wide?"), office.job("How deep?"), office.job("How deep?")
    office.lane.start([running, waiting, other])
    assert not office.lane.release(running)
    assert office.lane.release(waiting)
    assert not office.lane.release(waiting)
    endpoint.gate.set()
    answer = await office.outcome(other)
    assert isinstance(answer, Answer)
    assert answer.from_model
    assert waiting not in office.outcomes


async def test_what_an_equal_request_was_answered_while_it_waited_is_not_asked(endpoint: Endpoint) -> None:
    async with listening(endpoint.chat) as url, served(MemoryStore()) as cache:
        office = Office(url, cache)
        job = office.job("How deep?")
        async with grpc.aio.insecure_channel(cache) as channel:
            earlier = services_pb2.PutRequest(
                request=job.routed.request, model="large", output=result_pb2.Output(text="Deep.")
            )
            await services_pb2_grpc.CacheServiceStub(channel).Put(earlier)
        office.lane.start([job])
        answer = await office.outcome(job)
        assert isinstance(answer, Answer)
        assert (answer.output.text, answer.from_model, endpoint.asked) == ("Deep.", False, [])
        await office.close()
