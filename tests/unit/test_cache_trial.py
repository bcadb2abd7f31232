"""What the trial says of pairs is what the service does with them, counted as is said."""

from __future__ import annotations

import asyncio
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_heads import CALIBRATION, PERSONAL, SURE, UNSURE, KnowingVerifier, heads
from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cache.breaker import Breaker
from millpond_cache.lesson import keeping_of, lesson_of
from millpond_cache.lookup import Asked, Lookup
from millpond_cache.memory_store import MemoryStore
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.settings import CacheSettings
from millpond_cache.thresholds import Judged, Thresholds
from millpond_cache.trial import MODEL, NOW, TENANT, Judgement, Pair, Signs, auc, is_hit, judge, outcomes
from millpond_core.clock import ManualClock
from millpond_core.embedding import pack

SETTINGS = CacheSettings(lookup_timeout_s=60)
EMBEDDER = "embedder-1"

TEXTS = ("how deep is the sea", "how deep is a sea", "how deep is no sea", "doubtful, how deep is the sea", "")
VECTORS = {
    "near": np.eye(1, 384, dtype=np.float32)[0],
    "far": np.eye(3, 384, dtype=np.float32)[2],
    "personal": np.eye(PERSONAL + 1, 384, dtype=np.float32)[PERSONAL],
}


async def service(pair: Pair, signs: Signs) -> str:
    """The reason that the real look-up gives."""

    def asked(text: str, vector: np.ndarray, tokens: int) -> Asked:
        message = request_pb2.Message(role="user", content=text)
        request = request_pb2.Request(id="r", tenant=TENANT, messages=[message])
        return Asked(request, MODEL, pack(vector, EMBEDDER, tokens))

    store = MemoryStore()
    first = asked(pair.cached, signs.cached_vector, signs.cached_tokens)
    learned = envelope_pb2.Learned(
        request=first.request,
        embedding=first.embedding,
        output=result_pb2.Output(text="Deep."),
        served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL, model=MODEL),
    )
    learned.answered_at.FromSeconds(int(NOW))
    if lesson := lesson_of(learned, keeping_of(SETTINGS, heads().cacheability), NOW):
        await store.learn([lesson])
    breaker = Breaker(store, 60)
    closing = asyncio.create_task(breaker.run())
    while not breaker.closed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    closing.cancel()
    thresholds = Thresholds(SETTINGS, Judged(), CALIBRATION)
    recent, forgotten, clock, doubtful = Recent(0), Forgotten(), ManualClock(NOW), KnowingVerifier(["doubtful"])
    lookup = Lookup(store, recent, forgotten, breaker, doubtful, thresholds, SETTINGS, clock, heads())
    (verdict,) = await lookup.look_up([asked(pair.asked, signs.asked_vector, signs.asked_tokens)])
    return verdict.reason.code


@pytest.mark.parametrize("tokens", [6, 300])
@pytest.mark.parametrize(("cached_at", "asked_at"), [*product(VECTORS, VECTORS)])
async def test_it_decides_as_the_service_does(cached_at: str, asked_at: str, tokens: int) -> None:
    threshold = CALIBRATION.threshold(SETTINGS.error_budget)
    for cached, asked in product(TEXTS, TEXTS):
        pair = Pair(cached, asked, same=True)
        logit = UNSURE if "doubtful" in cached + asked else SURE
        signs = Signs(VECTORS[cached_at], VECTORS[asked_at], 6, tokens, logit)
        judged = judge(pair, signs, heads(), {0.01: threshold}, SETTINGS.max_temperature)
        assert judged.verdicts[0.01].reason.code == await service(pair, signs), pair


SCORED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30)


@given(SCORED)
def test_the_auc_is_the_share_of_pairs_in_the_right_order(scored: list[tuple[int, bool]]) -> None:
    right = [score for score, same in scored if same]
    wrong = [score for score, same in scored if not same]
    found = auc([score for score, _ in scored], [same for _, same in scored])
    if not right or not wrong:
        assert found is None
    else:
        order = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in product(right, wrong)]
        assert found == pytest.approx(sum(order) / len(order))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(-1, 1), st.sampled_from([SURE, UNSURE, -5.0])), max_size=20))
def test_hits_are_right_or_wrong_and_a_smaller_budget_has_no_more(drawn: list[tuple[bool, float, float]]) -> None:
    thresholds = {budget: CALIBRATION.threshold(budget) for budget in (0.001, 0.01, 0.3)}
    judged: list[Judgement] = []
    for same, cosine, logit in drawn:
        other = np.zeros(384, np.float32)
        other[0], other[2] = cosine, np.sqrt(1 - cosine**2)
        signs = Signs(VECTORS["near"], other, 6, 6, logit)
        judged.append(judge(Pair(TEXTS[0], TEXTS[1], same), signs, heads(), thresholds, 0.7))
    before = 0
    for budget in thresholds:
        found = outcomes(judged, budget)
        given_out = [each for each in judged if is_hit(each.verdicts[budget])]
        assert found.hits == len(given_out)
        assert found.wrong == sum(not each.same for each in given_out)
        assert 0 <= found.error_low95 <= found.error <= 1
        assert 0 <= found.recall <= 1
        assert found.hits >= before
        before = found.hits
