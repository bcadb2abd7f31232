"""A hundred thousand look-ups over many tenants, prompts and parameters: no answer of another place is ever given.

How: some hundred answers are told, each naming its own place. Then 100,000 questions are asked, half of them in a place
where something was told (the positive control: those must be answered), half anywhere. All texts have one vector, and
all pass the verifier, so that nothing but the place keeps an answer from being given.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from cache_askings import TEXTS, Asking, answers_from, lessons_of

from millpond_cache.memory_store import MemoryStore

LOOKUPS = 100_000

AT_ONCE = 2_000

TOLD = 400

SEED = 7


def anywhere(chance: random.Random) -> Asking:
    return Asking(
        tenant=chance.choice([f"t{number}" for number in range(20)] + ["t", "t1.1", "t-1"]),
        system=chance.choice(["", "b", "be", "be brief", "be brief ", "Be brief", TEXTS[0]]),
        history=chance.choice([(), ("b",), ("b", "e"), ("be",), (TEXTS[0], "deep"), (TEXTS[0], "Deep")]),
        model=chance.choice(["small", "smal", "large"]),
        temperature=chance.choice([None, 0.0, 0.5]),
        max_tokens=chance.choice([None, 1, 16]),
        embedder=chance.choice(["embedder-1", "embedder-2"]),
        text=chance.choice(TEXTS),
    )


async def test_no_answer_crosses_a_partition() -> None:
    chance = random.Random(SEED)
    told = [anywhere(chance) for _ in range(TOLD)]
    store = MemoryStore()
    await store.learn(lessons_of(told))
    # The same question told again, by whichever embedder, took the earlier one's place.
    kept = {(each.exact_place, each.text): each for each in told}
    by_answer = {repr(each): each for each in kept.values()}
    places = {each.place for each in kept.values()}
    seen: Counter[str] = Counter()
    for _ in range(0, LOOKUPS, AT_ONCE):
        known = [replace(chance.choice(told), text=chance.choice(TEXTS)) for _ in range(AT_ONCE // 2)]
        asked = [*known, *(anywhere(chance) for _ in range(AT_ONCE // 2))]
        for each, answer in zip(asked, await answers_from(store, asked), strict=True):
            told_here = each.place in places or (each.exact_place, each.text) in kept
            assert (answer is not None) == told_here, each
            if answer is not None:
                source = by_answer[answer]
                assert source.exact_place == each.exact_place
                assert source.text == each.text or source.embedder == each.embedder
            seen["hit" if answer else "miss"] += 1
    assert seen.total() == LOOKUPS
    # Neither side is idle: there were answers to be had, and neighbours to be kept apart from.
    assert min(seen["hit"], seen["miss"]) > LOOKUPS / 10
