"""Looks requests up, many at a time, within a bound of time and never with an error."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.agreement import shipped_agreement
from millpond_cache.breaker import Breaker
from millpond_cache.cacheable import shipped_head
from millpond_cache.cluster import cluster_of
from millpond_cache.decide import (
    Heads,
    Known,
    Policy,
    Shortlist,
    Verdict,
    decide,
    recalled,
    shortlist,
    spared,
    uncacheable,
    within_reach,
)
from millpond_cache.ledger import Ledger
from millpond_cache.partition import Question, Space, question_of
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.sampler import Sampler
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Candidate, Entry, Store, StoreRefused, StoreUnavailable
from millpond_cache.thresholds import Thresholds
from millpond_cache.verifier import Verifier, VerifierUnavailable
from millpond_cache.worth import Uses
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
class _Found:
    """What the store and the verifier said in time. A question that is not in a table was not answered."""

    exact: dict[str, Entry] = field(default_factory=dict[str, Entry])
    short: dict[Question, Shortlist] = field(default_factory=dict[Question, Shortlist])
    thresholds: dict[Question, Mapping[str, float]] = field(default_factory=dict[Question, Mapping[str, float]])
    """Of those on the short list, by their keys."""
    logits: dict[Question, Sequence[float]] = field(default_factory=dict[Question, Sequence[float]])

    def of(self, question: Question) -> Known:
        return Known(self.exact.get(question.key), self.short.get(question), self.logits.get(question))


class Lookup:
    def __init__(  # noqa: PLR0917
        self,
        store: Store,
        recent: Recent,
        forgotten: Forgotten,
        breaker: Breaker,
        verifier: Verifier,
        thresholds: Thresholds,
        settings: CacheSettings,
        clock: Clock,
        heads: Heads | None = None,
        ledger: Ledger | None = None,
        sampler: Sampler | None = None,
        uses: Uses | None = None,
    ) -> None:
        """heads: those that were shipped, unless others are given."""
        self._ledger = ledger or Ledger()
        self._forgotten = forgotten
        self._sampler = sampler
        self._uses = uses or Uses()
        self._store = store
        self._recent = recent
        self._breaker = breaker
        self._verifier = verifier
        self._thresholds = thresholds
        self._settings = settings
        heads = heads or Heads(shipped_head(), shipped_agreement())
        self._policy = Policy(heads, settings.max_temperature)
        self._clock = clock

    async def look_up(self, asked: Sequence[Asked], *, patient: bool = False) -> list[Verdict]:
        """One verdict for each, in their order. Exact entries come in one call, the nearest in one for each space, and
        all that is to be verified in one.

        patient: whether nobody waits for the answer just now.
        """
        began = time.monotonic()
        now = self._clock.now()
        verdicts: list[Verdict | None] = [spared(each.request, self._policy) for each in asked]
        questions: dict[int, Question] = {}
        for place, each in enumerate(asked):
            if verdicts[place] is None:
                question = question_of(each.request, each.model, each.embedding, self._settings.dimension)
                verdicts[place] = uncacheable(question, self._policy)
                questions[place] = question
        looked = [questions[place] for place, verdict in enumerate(verdicts) if verdict is None]
        bound_s = self._settings.patient_timeout_s if patient else self._settings.lookup_timeout_s
        found = await self._ask(looked, bound_s, now)
        answered = [verdict or self._decided(questions[place], found, now) for place, verdict in enumerate(verdicts)]
        spent = time.monotonic() - began
        for place, (each, verdict) in enumerate(zip(asked, answered, strict=True)):
            if self._sampler and place in questions:
                self._sampler.consider(each.request, each.embedding, questions[place], verdict)
            self._count(each.request.tenant, verdict)
            metrics.series(metrics.CACHE_SECONDS, verdict.outcome).observe(spent)
        return answered

    async def recall(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """Answers under these exact keys, where there are any by now: for requests that have waited since they were
        looked up. Those that there are not are no look-ups of their own, and not counted.
        """
        now = self._clock.now()
        found = self._recent_of(keys, now)
        left = [key for key in keys if key not in found]
        if left and self._breaker.closed:
            with suppress(TimeoutError, StoreUnavailable, StoreRefused):
                async with asyncio.timeout(self._settings.lookup_timeout_s):
                    found.update(await self._store.get(left))
        verdicts = {
            key: recalled(entry)
            for key, entry in found.items()
            if entry.expires_at > now and not self._forgotten.hides(entry)
        }
        for key, verdict in verdicts.items():
            self._count(found[key].tenant, verdict)
        return verdicts

    def _recent_of(self, keys: Sequence[str], now: float) -> dict[str, Entry]:
        """An answer that was on its way while an order to forget it was given may have come here after it."""
        found = {key: entry for key in keys if (entry := self._recent.get(key, now)) is not None}
        return {key: entry for key, entry in found.items() if not self._forgotten.hides(entry)}

    def _count(self, tenant: str, verdict: Verdict) -> None:
        self._ledger.looked_up(tenant, verdict)
        if verdict.entry is not None:
            self._uses.note(verdict.entry.key)
        metrics.series(metrics.CACHE_LOOKUPS, verdict.outcome).inc()

    def _decided(self, question: Question, found: _Found, now: float) -> Verdict:
        return decide(question, found.of(question), self._policy, found.thresholds.get(question, {}), now)

    def _thresholds_of(self, question: Question, candidates: Sequence[Candidate]) -> dict[str, float]:
        cluster = cluster_of(question.vector, question.embedder) if candidates and question.vector is not None else ""
        return {
            each.entry.key: self._thresholds.of(question.tenant, question.model, each.entry.source_id, cluster)
            for each in candidates
        }

    async def _ask(self, questions: Sequence[Question], bound_s: float, now: float) -> _Found:
        known = _Found(self._recent_of([each.key for each in questions], now))
        missing = [each for each in questions if each.key not in known.exact]
        if missing and self._breaker.closed:
            with suppress(TimeoutError, StoreUnavailable, StoreRefused):
                async with asyncio.timeout(bound_s):
                    await self._ask_store(missing, known, now)
            self._judge(missing, known)
        return known

    async def _ask_store(self, questions: Sequence[Question], known: _Found, now: float) -> None:
        """Fills in what is known as it comes, so that what came in time is used. Raises StoreUnavailable."""
        exact = await self._store.get(list({each.key for each in questions}))
        known.exact.update(
            {key: entry for key, entry in exact.items() if entry.expires_at > now and not self._forgotten.hides(entry)}
        )
        spaces: dict[Space, list[Question]] = defaultdict(list)
        for each in questions:
            if each.vector is None:
                known.short[each] = Shortlist()
            elif each.key not in known.exact:
                spaces[each.space].append(each)
        await asyncio.gather(*(self._search(space, members, known, now) for space, members in spaces.items()))
        with suppress(VerifierUnavailable):
            await self._verify(known)

    async def _search(self, space: Space, questions: Sequence[Question], known: _Found, now: float) -> None:
        vectors = [each.vector for each in questions if each.vector is not None]
        # What is wrong with one space does not take the others along.
        with suppress(StoreUnavailable, StoreRefused):
            found = await self._store.nearest(space, vectors, self._settings.candidates, now)
            for question, candidates in zip(questions, found, strict=True):
                still = [each for each in candidates if not self._forgotten.hides(each.entry)]
                short = shortlist(question, still, self._policy, now)
                if short.candidates:
                    known.thresholds[question] = self._thresholds_of(question, short.candidates)
                    short = within_reach(question, short.candidates, self._policy, known.thresholds[question])
                known.short[question] = short

    async def _verify(self, known: _Found) -> None:
        """Raises VerifierUnavailable; what was not verified by then is a miss."""
        waiting = [(question, short.candidates) for question, short in known.short.items() if short.candidates]
        pairs = [(each.entry.text, question.text) for question, candidates in waiting for each in candidates]
        if not pairs:
            return
        logits = iter(await self._verifier.score(pairs))
        for question, candidates in waiting:
            known.logits[question] = [next(logits) for _ in candidates]

    def _judge(self, questions: Sequence[Question], known: _Found) -> None:
        """The store failed where it answered nothing of what it was asked last."""
        left = [each for each in questions if each.key not in known.exact]
        searched = [each for each in left if each.vector is not None] or left
        if searched and not any(each in known.short for each in searched):
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
