"""Looks requests up, many at a time, within a bound of time and never with an error."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.breaker import Breaker
from millpond_cache.decide import Policy, Verdict, decide, spared
from millpond_cache.partition import Question, Space, question_of
from millpond_cache.recent import Recent
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Candidate, Entry, Store, StoreRefused, StoreUnavailable
from millpond_core import metrics
from millpond_core.clock import Clock
from millpond_core.result import Answer


@dataclass(frozen=True, slots=True)
class Asked:
    """model: the configured name of the one that would answer. embedding: None where the embedder did not answer."""

    request: request_pb2.Request
    model: str
    embedding: envelope_pb2.Embedding | None


@dataclass(slots=True)
class _Known:
    """What the store said in time. A question that is not in `near` was not answered."""

    exact: dict[str, Entry] = field(default_factory=dict[str, Entry])
    near: dict[Question, Sequence[Candidate]] = field(default_factory=dict[Question, Sequence[Candidate]])


class Lookup:
    def __init__(self, store: Store, recent: Recent, breaker: Breaker, settings: CacheSettings, clock: Clock) -> None:
        self._store = store
        self._recent = recent
        self._breaker = breaker
        self._settings = settings
        self._policy = Policy(settings.semantic_threshold, settings.max_temperature)
        self._clock = clock

    async def look_up(self, asked: Sequence[Asked], *, patient: bool = False) -> list[Verdict]:
        """One verdict for each, in their order. Exact entries come in one call, and the nearest in one for each space.

        patient: whether nobody waits for the answer just now.
        """
        began = time.monotonic()
        now = self._clock.now()
        verdicts = [spared(each.request, self._policy) for each in asked]
        questions = [
            question_of(each.request, each.model, each.embedding, self._settings.dimension)
            for each, verdict in zip(asked, verdicts, strict=True)
            if verdict is None
        ]
        bound_s = self._settings.patient_timeout_s if patient else self._settings.lookup_timeout_s
        known = await self._ask(questions, bound_s, now)
        decided = iter(
            decide(question, known.exact.get(question.key), known.near.get(question), self._policy, now)
            for question in questions
        )
        answered = [verdict or next(decided) for verdict in verdicts]
        spent = time.monotonic() - began
        for verdict in answered:
            metrics.series(metrics.CACHE_LOOKUPS, verdict.outcome).inc()
            metrics.series(metrics.CACHE_SECONDS, verdict.outcome).observe(spent)
        return answered

    async def _ask(self, questions: Sequence[Question], bound_s: float, now: float) -> _Known:
        known = _Known()
        known.exact.update(
            {each.key: entry for each in questions if (entry := self._recent.get(each.key, now)) is not None}
        )
        missing = [each for each in questions if each.key not in known.exact]
        if missing and self._breaker.closed:
            with suppress(TimeoutError, StoreUnavailable, StoreRefused):
                async with asyncio.timeout(bound_s):
                    await self._ask_store(missing, known, now)
            self._judge(missing, known)
        return known

    async def _ask_store(self, questions: Sequence[Question], known: _Known, now: float) -> None:
        """Fills in what is known as it comes, so that what came in time is used. Raises StoreUnavailable."""
        known.exact.update(await self._store.get(list({each.key for each in questions})))
        spaces: dict[Space, list[Question]] = defaultdict(list)
        for each in questions:
            if each.vector is None:
                known.near[each] = ()
            elif each.key not in known.exact:
                spaces[each.space].append(each)
        await asyncio.gather(*(self._search(space, members, known, now) for space, members in spaces.items()))

    async def _search(self, space: Space, questions: Sequence[Question], known: _Known, now: float) -> None:
        vectors = [each.vector for each in questions if each.vector is not None]
        # What is wrong with one space does not take the others along.
        with suppress(StoreUnavailable, StoreRefused):
            found = await self._store.nearest(space, vectors, self._settings.candidates, now)
            known.near.update(zip(questions, found, strict=True))

    def _judge(self, questions: Sequence[Question], known: _Known) -> None:
        """The store failed where it answered nothing of what it was asked last."""
        left = [each for each in questions if each.key not in known.exact]
        searched = [each for each in left if each.vector is not None] or left
        if searched and not any(each in known.near for each in searched):
            self._breaker.failed()
        else:
            self._breaker.answered()


def answer_of(verdict: Verdict) -> Answer | None:
    """The answer of a hit, with the usage of the call that made it."""
    entry = verdict.entry
    if entry is None:
        return None
    hit = result_pb2.CacheHit(kind=verdict.outcome, similarity=verdict.similarity, source_id=entry.source_id)
    return Answer(
        result_pb2.Output(text=entry.output, finish_reason=entry.finish_reason),
        result_pb2.ServedBy(route=result_pb2.ROUTE_CACHE, model=entry.model, cache=hit),
        result_pb2.Usage(input_tokens=entry.input_tokens, output_tokens=entry.output_tokens),
    )
