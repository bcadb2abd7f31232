"""The requests of one model: those that wait, those that run, and what becomes of each."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from weakref import WeakKeyDictionary

from opentelemetry.trace import Span

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_batcher import plan
from millpond_batcher.ahead import ahead, demand
from millpond_batcher.canary import Canary
from millpond_batcher.chat_prompt import ChatPrompt
from millpond_batcher.cost_model import Costs, Ran
from millpond_batcher.engine import Completion
from millpond_batcher.plan import Batch, Wait, backlog_of, fits, retry_after_s
from millpond_batcher.quality import Checks, Failed
from millpond_batcher.replica import Replica
from millpond_batcher.row import CHECKS_NAME, Row, pressing, row_of
from millpond_batcher.sampling import max_tokens, sampling
from millpond_batcher.settings import BatcherSection, prior_of
from millpond_batcher.suspects import company_of, deaths_of, is_poison
from millpond_core import metrics, telemetry, topics
from millpond_core.batch_name import BatchName, batch_of
from millpond_core.cache_client import WAITED, Cache, worth_recalling
from millpond_core.clock import Clock
from millpond_core.control import Word
from millpond_core.envelope import TIER_WORDS
from millpond_core.errors import Code, EngineError, Refused
from millpond_core.processor import Unread, mark_of
from millpond_core.result import Answer, Failure
from millpond_core.same_request import shared_answer
from millpond_core.settings import ModelSettings
from millpond_core.stage import Forward, Job, Retry, Settle
from millpond_core.telemetry import Tracing

logger = logging.getLogger(__name__)


URGENT_TIERS = (request_pb2.TIER_REALTIME,)
BULK_TIERS = (request_pb2.TIER_STANDARD, request_pb2.TIER_OVERNIGHT)

LOOK_EVERY_S = 1.0
"""Between two looks through what waits unread in a partition."""


@dataclass(eq=False)
class Sent:
    """A batch that runs. left: rows that have not ended."""

    span: Span
    left: int


class Lane:
    """Called from the event loop. crashed: told of an exception that no row may raise.

    replicas: at least one that is not urgent. opened: called with each of them that answers after it did not, the first
    time included. large: the model to which goes what is not good enough.
    """

    def __init__(
        self,
        model: ModelSettings,
        replicas: Sequence[Replica],
        *,
        policy: plan.Policy,
        settings: BatcherSection,
        settle: Settle,
        cache: Cache,
        clock: Clock,
        tracing: Tracing,
        opened: Callable[[Replica], None],
        crashed: Callable[[BaseException], None],
        large: str,
    ) -> None:
        self._model = model
        self._large = large
        self._replicas = replicas
        self._policy = policy
        self._settings = settings
        self._settle = settle
        self._cache = cache
        self._clock = clock
        self._tracing = tracing
        self._opened = opened
        self._crashed = crashed
        self._prompt = ChatPrompt(model.chat_template)
        prior = prior_of(settings, model)
        self._costs = Costs(prior, model.max_rows)
        self._priced = prior
        engines = sum(not replica.urgent for replica in replicas)
        self._most = model.max_rows * engines
        """Rows that run at the same time, those apart that urgent processes run."""
        self._backlog = backlog_of(policy, self._costs.of_tier, model.max_rows, engines, Row)
        self._checks = {name: each.checks() for name, each in settings.checks.items()}
        self._canary = Canary(settings.canary_rows, settings.canary_failed)
        self._held: dict[BatchName, dict[Row, None]] = {}
        """Rows that wait for what their batch's first answers are worth, in their order."""
        self._rows: dict[Job, Row] = {}
        self._shared: dict[bytes, Row] = {}
        """Rows that an equal request may join, waiting or running."""
        self._suspects: dict[Row, int] = {}
        """Rows that wait to run apart from the others, and how often the model died under each."""
        self._running: Counter[tuple[str, request_pb2.Tier]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked_s: WeakKeyDictionary[Unread, float] = WeakKeyDictionary()
        """When each table of what waits unread was looked through."""
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        for replica in replicas:
            self._count_rows(replica)
            self._revive(replica)

    def start(self, jobs: Sequence[Job]) -> None:
        now = self._clock.now()
        for job in jobs:
            self._receive(job, now)
        self._turn()

    def release(self, job: Job) -> bool:
        row = self._rows.get(job)
        if row is None or row.task is not None:
            return False
        self._leave(job)
        return True

    def abandon(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job in self._rows:
                self._leave(job)
        self._turn()

    async def ahead(self, unread: Unread, held: Collection[bytes], room: int) -> Sequence[int]:
        """What the plan would send next of what waits unread; and how much all of that is, is told to the plan."""
        now = self._clock.now()
        if abs(now - self._looked_s.get(unread, 0.0)) < LOOK_EVERY_S:
            return ()
        self._looked_s[unread] = now
        passed = [*held, *(batch.key for batch in self._canary.held)]
        hands = {
            tier: {
                mark_of(tenant.encode()): [int(deadline_s * 1000) for deadline_s in deadlines]
                for tenant, deadlines in self._backlog.first(tier, self._most)
            }
            for tier in plan.TIERS
        }
        model = mark_of(self._model.name.encode())

        def look() -> tuple[Sequence[int], Sequence[tuple[float, float]]]:
            rows = unread.waiting(passed)
            rows = rows[rows["model"] == model]
            offsets: list[int] = []
            for tier, hand in hands.items():
                of_tier = rows[rows["tier"] == tier]
                offsets += ahead(of_tier, hand, most=self._most, room=room - len(offsets)).tolist()
            return offsets, demand(rows, now)

        # A million rows take a good part of a second.
        offsets, due = await asyncio.to_thread(look)
        self._backlog.expect(unread, due)
        self._turn()
        return offsets

    def told(self, batch: BatchName, word: Word) -> None:
        if word == "resume":
            self._canary.resume(batch)
            self._admit(batch)
            self._turn()
        elif word == "cancel":
            self._canary.forget(batch)
        self._count_held()

    async def drain(self) -> None:
        """Finish what runs and leave what waits."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up whatever still runs."""
        self._draining = True
        tasks = [*self._tasks, *(replica.reviving for replica in self._replicas if replica.reviving)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._timer:
            self._timer.cancel()
        for replica in self._replicas:
            await replica.engine.close()

    # What waits

    def _receive(self, job: Job, now: float) -> None:
        try:
            row = row_of(job, self._model.context_tokens, self._checks_of(job.routed.request), now)
            self._check_size(row)
        except Refused as failure:
            self._settle(job, Failure(failure.to_error()))
            return
        if row.key is not None:
            if (other := self._shared.get(row.key)) and self._join(other, row):
                return
            self._shared[row.key] = row
        self._rows[job] = row
        batch = batch_of(job.routed.request)
        if row.checks is None or batch is None or self._canary.admit(batch):
            self._wait(row)
        else:
            self._held.setdefault(batch, {})[row] = None

    def _wait(self, row: Row) -> None:
        """Let it wait for its turn: apart, where the model died under it."""
        if deaths := deaths_of(row.first.routed, self._model.name):
            self._forget(row)
            self._suspects[row] = deaths
        else:
            self._backlog.add(row.waiting)

    def _check_size(self, row: Row) -> None:
        """Raises Refused."""
        if not fits(row.waiting, self._model.max_batch_tokens, self._policy):
            most = min(self._model.max_batch_tokens, self._policy.windows[row.waiting.tier].tokens)
            told = f"messages and max_tokens: about {row.waiting.tokens} tokens, and a batch holds {most}: ask for less"
            raise Refused(Code.CONTEXT_LENGTH_EXCEEDED, told)

    def _checks_of(self, request: request_pb2.Request) -> Checks | None:
        """Raises Refused."""
        name = request.metadata.get(CHECKS_NAME, self._settings.default_checks)
        if name is not None and name not in self._checks:
            known = ", ".join(sorted(self._checks)) or "none is configured"
            raise Refused(Code.INVALID_FIELD, f"metadata.checks: {name[:64]!r} is no set of checks; these are: {known}")
        return self._checks[name] if name is not None else None

    def _join(self, row: Row, newcomer: Row) -> bool:
        """Let the newcomer's request wait for the row's answer. False where that would come too late for it."""
        if row.task is not None and newcomer.urgent and not row.urgent:
            return False
        job = newcomer.first
        if row.task is None:
            was_sendable = self._backlog.remove(row) is not None
            row.waiting = pressing(row.waiting, newcomer.waiting)
            if was_sendable:
                self._backlog.add(row.waiting)
        row.jobs.append(job)
        self._rows[job] = row
        return True

    def _leave(self, job: Job) -> None:
        """Nobody waits for this request here any more; its row goes on while it has others."""
        row = self._rows.pop(job)
        row.jobs.remove(job)
        if row.jobs:
            return
        self._forget(row)
        batch = batch_of(job.routed.request) if row.checks and not row.again else None
        if row.task is not None:
            row.task.cancel()
        elif self._suspects.pop(row, None) is None and self._backlog.remove(row) is None and batch is not None:
            self._held.get(batch, {}).pop(row, None)
            return
        if batch is not None:
            self._canary.withdraw(batch)
            self._admit(batch)

    def _admit(self, batch: BatchName) -> None:
        """Let in what is held of a batch, as far as it may be sent."""
        held = self._held.get(batch, {})
        for row in list(held):
            if not self._canary.admit(batch):
                return
            del held[row]
            self._wait(row)
        self._held.pop(batch, None)

    def _forget(self, row: Row) -> None:
        """Let nobody join it any more."""
        if row.key is not None and self._shared.get(row.key) is row:
            del self._shared[row.key]

    # From waiting to running

    def _turn(self) -> None:
        """Send what is to be sent now, and come back when the next window closes."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        seconds = 0.0
        while not seconds and not self._draining:
            ready = [replica for replica in self._replicas if replica.answers and not replica.apart]
            for urgent in (True, False):
                self._try_apart(ready, urgent=urgent)
            seconds = min((self._send_next(*share) for share in _shares(ready)), default=math.inf)
        if 0 < seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._turn)

    def _send_next(self, replicas: Sequence[Replica], tiers: Collection[request_pb2.Tier]) -> float:
        """Send these a batch of these tiers. Returns 0; where there is none yet, seconds until there may be."""
        if not self._backlog:
            return math.inf
        others = [replica for replica in self._replicas if replica not in replicas]
        engine = plan.Engine(
            # What runs on the others takes no place here.
            sum(each.limit.rows for each in replicas) + sum(each.running[tier] for each in others for tier in tiers),
            self._running,
            # A batch has to fit into the emptiest: of two that are half full neither holds what both have room for.
            self._model.max_batch_tokens,
            min(replica.tokens for replica in replicas),
            tiers,
        )
        step = plan.plan(self._backlog, engine, self._policy, self._clock.now())
        if isinstance(step, Wait):
            return math.inf if step.seconds is None else step.seconds
        self._send(step, replicas)
        return 0.0

    def _turn_soon(self) -> None:
        """Once for all rows that end together."""
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(0, self._turn)

    def _try_apart(self, ready: list[Replica], *, urgent: bool) -> None:
        """Send suspects to the emptiest replica for such rows, which is then ready no more: once it is empty."""
        suspects = {row: deaths for row, deaths in self._suspects.items() if row.urgent == urgent}
        replicas = _for_rows(ready, urgent=urgent)
        if not suspects or not replicas:
            return
        replica = min(replicas, key=lambda each: each.rows)
        ready.remove(replica)
        if replica.rows:
            return
        deaths = min(suspects.values())
        those = [row for row, each in suspects.items() if each == deaths]
        group = those[: company_of(deaths, self._model.max_rows)]
        for row in group:
            del self._suspects[row]
        replica.apart = True
        self._send(Batch(group[0].waiting.tier, "suspects", [row.waiting for row in group]), [replica])

    def _send(self, batch: Batch[Row], answering: Sequence[Replica]) -> None:
        name, tier = self._model.name, TIER_WORDS[batch.tier]
        now = self._clock.now()
        rows = len(batch.members)
        attributes = {
            telemetry.REQUEST_MODEL: name,
            telemetry.TIER: tier,
            telemetry.BATCH_ROWS: rows,
            telemetry.BATCH_REASON: batch.reason,
        }
        spans = [job.span for member in batch.members for job in member.item.jobs]
        sent = Sent(self._tracing.batch(spans, attributes), rows)
        metrics.BATCH_ROWS.labels(name, tier).observe(rows)
        # Answers for a set of checks are not told apart in the cache.
        waited = [row.first for row in (member.item for member in batch.members) if row.checks is None]
        waited = [job for job in waited if worth_recalling(job, now)]
        recalling = asyncio.create_task(self._cache.recall(waited)) if waited else None
        for member in batch.members:
            row = member.item
            metrics.series(metrics.BATCH_WAIT_SECONDS, name, tier).observe(max(now - member.arrived_s, 0))
            replica = plan.best_for(member.tokens, answering, self._model.max_batch_tokens)
            replica.take(member.tier, member.tokens)
            self._running[member.tenant, member.tier] += 1
            row.task = asyncio.create_task(self._run(row, replica, sent, recalling))
            self._tasks.add(row.task)
            row.task.add_done_callback(partial(self._ended, row, replica, sent))

    def _ended(self, row: Row, replica: Replica, sent: Sent, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        waiting = row.waiting
        replica.give_back(waiting.tier, waiting.tokens)
        key = (waiting.tenant, waiting.tier)
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        row.task = None
        if not replica.rows:
            replica.apart = False
        sent.left -= 1
        if not sent.left:
            sent.span.end()
        if not task.cancelled() and (failure := task.exception()):
            self._crashed(failure)
        if row.jobs:
            # Its replica is away and another one will do, or its answer is wanted once more.
            self._wait(row)
        self._turn_soon()

    # One row

    async def _run(
        self, row: Row, replica: Replica, sent: Sent, recalling: asyncio.Task[dict[Job, Answer]] | None
    ) -> None:
        """recalling: what the cache has by now for the batch's rows that waited."""
        if recalling and (answer := (await asyncio.shield(recalling)).get(row.first)):
            self._recalled(row, answer)
            return
        name = self._model.name
        span = self._tracing.chat(name, row.first.span, {telemetry.GEN_AI_PROVIDER: "triton"}, batch=sent.span)
        began = monotonic()
        area = replica.area()
        outcome = "cancelled"
        try:
            completion = await self._complete(row, replica, span)
            outcome = "ok"
            self._learn(row, replica, completion, began, area)
            self._answer(row, span, completion, monotonic() - began)
        except Refused as failure:
            outcome = failure.code
            self._settle_all(row, Failure(failure.to_error()))
        except EngineError as failure:
            outcome = failure.code
            self._failed(row, replica, failure, monotonic() - began)
        finally:
            if outcome != "ok":
                span.set_attribute(telemetry.ERROR_TYPE, outcome)
            span.end()
            metrics.series(metrics.ENGINE_SECONDS, name, outcome).observe(monotonic() - began)

    def _recalled(self, row: Row, answer: Answer) -> None:
        self._backlog.refund(row.waiting, row.waiting.tokens)
        self._withdraw(row)
        for job in self._release(row):
            job.routed.decision.reasons.add(code=WAITED, value=1.0, detail=answer.served_by.cache.source_id)
            self._settle(job, answer)

    async def _complete(self, row: Row, replica: Replica, span: Span) -> Completion:
        request = row.first.routed.request
        span.set_attribute(telemetry.MAX_TOKENS, max_tokens(request, self._model.context_tokens))
        return await replica.engine.complete(
            self._prompt.render(request),
            sampling(
                request,
                self._model.context_tokens,
                self._model.adapter,
                again=row.again,
                logprobs=row.checks is not None and row.checks.min_mean_logprob is not None,
            ),
            timeout_s=self._settings.row_timeout_s,
            urgent=row.urgent,
            headers={name: str(value) for name, value in telemetry.inject_metadata((), span)},
        )

    def _learn(self, row: Row, replica: Replica, completion: Completion, began: float, area: float) -> None:
        """What the row took, for the plan of those to come."""
        now = monotonic()
        seconds = max(now - began, 1e-6)
        rows = max((replica.area() - area) / seconds, 1.0)
        costs = self._costs.urgent if row.urgent else self._costs.bulk
        costs.observe(Ran(completion.input_tokens, completion.output_tokens, rows, seconds))
        if costs.cost.differs(self._priced, self._model.max_rows) and not row.urgent:
            self._priced = costs.cost
            self._backlog.reprice()
        used = completion.input_tokens + completion.output_tokens
        self._backlog.refund(row.waiting, row.waiting.tokens - used)
        if completion.first_token_s is not None and not row.urgent:
            replica.limit.answered(sent_s=began, now=now, waited_s=completion.first_token_s, running=replica.rows)
            self._count_rows(replica)

    def _count_rows(self, replica: Replica) -> None:
        metrics.series(metrics.MODEL_ROWS, self._model.name, replica.name).set(replica.limit.rows)

    def _answer(self, row: Row, span: Span, completion: Completion, seconds: float) -> None:
        name = self._model.name
        span.set_attribute(telemetry.RESPONSE_MODEL, name)
        span.set_attribute(telemetry.FINISH_REASONS, (completion.finish_reason,))
        span.set_attribute(telemetry.INPUT_TOKENS, completion.input_tokens)
        span.set_attribute(telemetry.OUTPUT_TOKENS, completion.output_tokens)
        metrics.series(metrics.INPUT_TOKENS, name).inc(completion.input_tokens)
        metrics.series(metrics.OUTPUT_TOKENS, name).inc(completion.output_tokens)
        usage = result_pb2.Usage(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens)
        if (failed := self._judge(row, completion)) is not None:
            span.set_attribute(telemetry.ERROR_TYPE, f"{Code.QUALITY_CHECK_FAILED}.{failed.check}")
            self._not_good_enough(row, failed, usage, seconds)
            return
        answer = Answer(
            result_pb2.Output(text=completion.text, finish_reason=completion.finish_reason),
            result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=name),
            usage,
        )
        first, *others = self._release(row)
        self._settle(first, answer)
        for job in others:
            self._settle(job, shared_answer(answer, first, job))

    # Whether it is good enough

    def _judge(self, row: Row, completion: Completion) -> Failed | None:
        if row.checks is None:
            return None
        name = self._model.name
        failed = row.checks.verdict(completion.text, completion.mean_logprob)
        metrics.series(metrics.CHECKED, name).inc()
        if failed is not None:
            metrics.series(metrics.CHECKS_FAILED, name, failed.check).inc()
        # Of an answer that is asked for twice, the first says whether the batch is at fault.
        if not row.again and (batch := batch_of(row.first.routed.request)) is not None:
            was_held = self._canary.is_held(batch)
            self._canary.judge(batch, failed=failed is not None)
            self._admit(batch)
            if self._canary.is_held(batch) and not was_held:
                logger.error(
                    "model %s: of the first answers of batch %s of tenant %s more than %d %% fail their checks, the "
                    "last one %s: its rest is held. Look at its results; then ./millpond resume %s --tenant %s, or "
                    "./millpond cancel --batch %s --tenant %s",
                    *(name, batch.name, batch.tenant, round(self._settings.canary_failed * 100)),
                    failed.check if failed else "none",
                    *(shlex.quote(batch.name), batch.tenant) * 2,
                )
            self._count_held()
        return failed

    def _count_held(self) -> None:
        metrics.series(metrics.HELD_BATCHES, self._model.name).set(len(self._canary.held))

    def _not_good_enough(self, row: Row, failed: Failed, usage: result_pb2.Usage, seconds: float) -> None:
        """Ask once more where its checks say so, else give it to the large model, each within its deadline."""
        error = result_pb2.Error(
            code=Code.QUALITY_CHECK_FAILED, message=f"{failed.check}: {failed.reason}", retryable=True
        )
        attempt = self._attempt(error, seconds)
        for job in row.jobs:
            job.routed.attempts.append(attempt)
        # The call was one, whoever shares its answer.
        row.first.routed.attempts[-1].usage.CopyFrom(usage)
        now = self._clock.now()
        latest_s = now + self._costs.of_tier(row.waiting.tier).run_s(
            row.waiting.prompt_tokens, row.waiting.max_tokens, self._model.max_rows
        )
        if row.checks and row.checks.retry and not row.again and latest_s < row.waiting.deadline_s:
            row.again = True
            return
        for job in self._release(row):
            may = self._settings.escalate and self._large not in job.routed.decision.forbidden
            if may and now < job.deadline_s - self._settings.escalate_s:
                metrics.series(metrics.ESCALATED, self._model.name, failed.check).inc()
                self._settle(job, Forward(topics.FRONTIER, self._escalated(job, failed)))
            else:
                self._settle(job, Failure(error))

    def _escalated(self, job: Job, failed: Failed) -> envelope_pb2.Routed:
        decision = job.routed.decision
        decision.route, decision.model = result_pb2.ROUTE_FRONTIER, self._large
        decision.reasons.append(result_pb2.Reason(code=f"quality.{failed.check}", detail=failed.reason))
        return job.routed

    # Where it failed

    def _attempt(self, error: result_pb2.Error, seconds: float) -> result_pb2.Attempt:
        return result_pb2.Attempt(
            route=result_pb2.ROUTE_SMALL, model=self._model.name, error=error, duration_ms=round(seconds * 1000, 1)
        )

    def _failed(self, row: Row, replica: Replica, failure: EngineError, seconds: float) -> None:
        """Ask another replica, try again later, or give up. Until a replica answers, nothing more is sent to it."""
        if failure.code == Code.ENGINE_UNAVAILABLE:
            self._revive(replica)
        attempt = self._attempt(failure.to_error(), seconds)
        if failure.code == Code.ENGINE_UNAVAILABLE:
            self._died(row, replica, attempt)
            return
        self._withdraw(row)
        for job in self._release(row):
            attempts = 1 + sum(each.error.code == failure.code for each in job.routed.attempts)
            if attempts < self._settings.max_attempts:
                first_s, last_s = self._settings.retry_first_s, self._settings.retry_last_s
                after_s = retry_after_s(attempts, first_s, last_s, random.random())  # noqa: S311
                self._settle(job, Retry(self._clock.now() + after_s, attempt))
            else:
                job.routed.attempts.append(attempt)
                self._settle(job, Failure(failure.to_error()))

    def _died(self, row: Row, replica: Replica, attempt: result_pb2.Attempt) -> None:
        """The model died under this row, or did not answer in time: is it the cause?"""
        deaths = 1 + deaths_of(row.first.routed, self._model.name)
        if is_poison(deaths, self._model.max_rows):
            self._withdraw(row)
            for job in self._release(row):
                job.routed.attempts.append(attempt)
                self._settle(job, Failure(_poison(deaths), dead_letter=True))
        elif not replica.answers and _for_rows([each for each in self._replicas if each.answers], urgent=row.urgent):
            for job in row.jobs:
                job.routed.attempts.append(attempt)
        else:
            self._withdraw(row)
            for job in self._release(row):
                # No longer each time, since nothing is sent until the model answers.
                self._settle(job, Retry(self._clock.now() + self._settings.retry_first_s, attempt))

    def _settle_all(self, row: Row, failure: Failure) -> None:
        self._withdraw(row)
        for job in self._release(row):
            self._settle(job, failure)

    def _withdraw(self, row: Row) -> None:
        """Its batch learns nothing from this row: another one may take its place."""
        if row.checks and not row.again and (batch := batch_of(row.first.routed.request)) is not None:
            self._canary.withdraw(batch)
            self._admit(batch)

    def _release(self, row: Row) -> Sequence[Job]:
        """Its requests, which are the caller's from here on."""
        self._forget(row)
        jobs, row.jobs = row.jobs, []
        for job in jobs:
            del self._rows[job]
        return jobs

    # The model itself

    def _revive(self, replica: Replica) -> None:
        if not self._draining:
            metrics.series(metrics.MODEL_ANSWERS, self._model.name, replica.name).set(0)
            replica.revive(partial(self._answers, replica), self._crashed)

    def _answers(self, replica: Replica) -> None:
        metrics.series(metrics.MODEL_ANSWERS, self._model.name, replica.name).set(1)
        self._opened(replica)
        self._turn()


def _for_rows(replicas: Sequence[Replica], *, urgent: bool) -> Sequence[Replica]:
    """Where such rows may go: to those that are theirs, and urgent ones to the others where there is none of these."""
    return [each for each in replicas if each.urgent and urgent] or [each for each in replicas if not each.urgent]


def _shares(replicas: Sequence[Replica]) -> Sequence[tuple[Sequence[Replica], Collection[request_pb2.Tier]]]:
    """Which of these are planned together, and for which tiers."""
    urgent, others = _for_rows(replicas, urgent=True), _for_rows(replicas, urgent=False)
    shares = [(others, plan.TIERS)] if urgent == others else [(urgent, URGENT_TIERS), (others, BULK_TIERS)]
    return [share for share in shares if share[0]]


def _poison(deaths: int) -> result_pb2.Error:
    message = f"the model died, or did not answer in time, {deaths} times under this request, the last two times alone"
    return result_pb2.Error(code=Code.POISON, message=message, retryable=False)
