"""The requests of one model: those that wait, those that run, and what becomes of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from opentelemetry.trace import Span

from millpond.v1 import result_pb2
from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher import plan
from millpond_batcher.chat_prompt import ChatPrompt
from millpond_batcher.engine import Completion, Engine
from millpond_batcher.plan import Batch, Wait, Waiting, Window, retry_after_s, run_s
from millpond_batcher.revival import Revival
from millpond_batcher.sampling import max_tokens, sampling
from millpond_batcher.settings import BatcherSection
from millpond_core import metrics, telemetry
from millpond_core.clock import Clock
from millpond_core.envelope import TIER_WORDS
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.result import Answer, Failure
from millpond_core.settings import ModelSettings
from millpond_core.stage import Job, Retry, Settle
from millpond_core.telemetry import Tracing
from millpond_core.validate import estimated_tokens


@dataclass(eq=False)
class Sent:
    """A batch that runs. left: rows that have not ended."""

    span: Span
    left: int


class Lane:
    """Called from the event loop. crashed: told of an exception that no row may raise.

    opened: called each time the model answers after it did not, the first time included.
    """

    def __init__(
        self,
        model: ModelSettings,
        engine: Engine,
        *,
        settings: BatcherSection,
        settle: Settle,
        clock: Clock,
        tracing: Tracing,
        opened: Callable[[], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._model = model
        self._engine = engine
        self._settings = settings
        self._settle = settle
        self._clock = clock
        self._tracing = tracing
        self._opened = opened
        self._crashed = crashed
        self._prompt = ChatPrompt(model.chat_template)
        self._policy = plan.Policy(
            {
                TIER_REALTIME: Window(settings.realtime_rows, settings.realtime_wait_s),
                TIER_STANDARD: Window(settings.standard_rows, settings.standard_wait_s),
                TIER_OVERNIGHT: Window(settings.overnight_rows, settings.overnight_wait_s),
            },
            margin_s=settings.margin_s,
            reserved_rows=settings.reserved_rows,
            refill_rows=settings.refill_rows,
        )
        self._waiting: dict[Job, Waiting[Job]] = {}
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._revival = Revival(engine, model.name, reload=settings.reload_models)
        self._reviving: asyncio.Task[None] | None = None
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._revive()

    def start(self, jobs: Sequence[Job]) -> None:
        now = self._clock.now()
        for job in jobs:
            self._waiting[job] = self._description(job, now)
        self._turn()

    def release(self, job: Job) -> bool:
        return self._waiting.pop(job, None) is not None

    def abandon(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting.pop(job, None)
            if task := self._running.get(job):
                task.cancel()

    async def drain(self) -> None:
        """Finish what runs and leave what waits."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running.values())

    async def close(self) -> None:
        """Give up whatever still runs."""
        self._draining = True
        tasks = [task for task in (self._reviving, *self._running.values()) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._timer:
            self._timer.cancel()
        await self._engine.close()

    # From waiting to running

    def _turn(self) -> None:
        """Send what is to be sent now, and come back when the next window closes."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting and not self._draining and self._reviving is None:
            realtime = sum(job.urgent for job in self._running)
            engine = plan.Engine(self._model.max_rows, realtime, len(self._running) - realtime)
            step = plan.plan(self._waiting.values(), engine, self._policy, self._clock.now())
            if isinstance(step, Wait):
                if step.seconds is not None:
                    self._timer = asyncio.get_running_loop().call_later(step.seconds, self._turn)
                return
            self._send(step)

    def _send(self, batch: Batch[Job]) -> None:
        name, tier = self._model.name, TIER_WORDS[batch.tier]
        now = self._clock.now()
        rows = len(batch.members)
        attributes = {
            telemetry.REQUEST_MODEL: name,
            telemetry.TIER: tier,
            telemetry.BATCH_ROWS: rows,
            telemetry.BATCH_REASON: batch.reason,
        }
        sent = Sent(self._tracing.batch([member.item.span for member in batch.members], attributes), rows)
        metrics.BATCH_ROWS.labels(name, tier).observe(rows)
        for member in batch.members:
            job = member.item
            del self._waiting[job]
            metrics.BATCH_WAIT_SECONDS.labels(name, tier).observe(max(now - member.arrived_s, 0))
            task = asyncio.create_task(self._run(job, sent))
            self._running[job] = task
            task.add_done_callback(partial(self._ended, job, sent))

    def _ended(self, job: Job, sent: Sent, task: asyncio.Task[None]) -> None:
        del self._running[job]
        sent.left -= 1
        if not sent.left:
            sent.span.end()
        if not task.cancelled() and (failure := task.exception()):
            self._crashed(failure)
        self._turn()

    def _description(self, job: Job, now: float) -> Waiting[Job]:
        request = job.routed.request
        expected = run_s(
            estimated_tokens(request),
            max_tokens(request, self._model.context_tokens),
            prompt_tokens_per_s=self._settings.prompt_tokens_per_s,
            row_tokens_per_s=self._settings.row_tokens_per_s,
        )
        return Waiting(job, job.routed.decision.tier, now, job.deadline_s, expected)

    # One row

    async def _run(self, job: Job, sent: Sent) -> None:
        name = self._model.name
        span = self._tracing.chat(name, job.span, {telemetry.GEN_AI_PROVIDER: "triton"}, batch=sent.span)
        began = monotonic()
        outcome = "cancelled"
        try:
            completion = await self._complete(job, span)
            outcome = "ok"
            self._answer(job, span, completion)
        except Refused as failure:
            outcome = failure.code
            self._settle(job, Failure(failure.to_error()))
        except EngineError as failure:
            outcome = failure.code
            self._failed(job, failure, monotonic() - began)
        finally:
            if outcome != "ok":
                span.set_attribute(telemetry.ERROR_TYPE, outcome)
            span.end()
            metrics.ENGINE_SECONDS.labels(name, outcome).observe(monotonic() - began)

    async def _complete(self, job: Job, span: Span) -> Completion:
        request = job.routed.request
        span.set_attribute(telemetry.MAX_TOKENS, max_tokens(request, self._model.context_tokens))
        return await self._engine.complete(
            self._prompt.render(request),
            sampling(request, self._model.context_tokens),
            timeout_s=self._settings.row_timeout_s,
            headers={name: str(value) for name, value in telemetry.inject_metadata((), span)},
        )

    def _answer(self, job: Job, span: Span, completion: Completion) -> None:
        name = self._model.name
        span.set_attribute(telemetry.RESPONSE_MODEL, name)
        span.set_attribute(telemetry.FINISH_REASONS, (completion.finish_reason,))
        span.set_attribute(telemetry.INPUT_TOKENS, completion.input_tokens)
        span.set_attribute(telemetry.OUTPUT_TOKENS, completion.output_tokens)
        metrics.INPUT_TOKENS.labels(name).inc(completion.input_tokens)
        metrics.OUTPUT_TOKENS.labels(name).inc(completion.output_tokens)
        answer = Answer(
            result_pb2.Output(text=completion.text, finish_reason=completion.finish_reason),
            result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=name),
            result_pb2.Usage(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens),
        )
        self._settle(job, answer)

    def _failed(self, job: Job, failure: EngineError, seconds: float) -> None:
        """Try again later, or give up. Until the model answers, nothing more is sent to it."""
        attempt = result_pb2.Attempt(
            route=result_pb2.ROUTE_SMALL,
            model=self._model.name,
            error=failure.to_error(),
            duration_ms=round(seconds * 1000, 1),
        )
        attempts = 1 + sum(each.model == self._model.name for each in job.routed.attempts)
        if attempts < self._settings.max_attempts:
            first_s, last_s = self._settings.retry_first_s, self._settings.retry_last_s
            after_s = retry_after_s(attempts, first_s, last_s, random.random())  # noqa: S311
            self._settle(job, Retry(self._clock.now() + after_s, attempt))
        else:
            job.routed.attempts.append(attempt)
            self._settle(job, Failure(failure.to_error()))
        if failure.code == Code.ENGINE_UNAVAILABLE:
            self._revive()

    # The model itself

    def _revive(self) -> None:
        if self._reviving is None and not self._draining:
            self._reviving = asyncio.create_task(self._revival.answering())
            self._reviving.add_done_callback(self._revived)

    def _revived(self, task: asyncio.Task[None]) -> None:
        self._reviving = None
        if task.cancelled():
            return
        if failure := task.exception():
            self._crashed(failure)
            return
        self._opened()
        self._turn()
