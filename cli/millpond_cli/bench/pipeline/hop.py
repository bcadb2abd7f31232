"""A stage behind the claim in a process of its own, with all of its service but the store and the model.

`python -m millpond_cli.bench.pipeline.hop cache|batcher`: until it is ended, with a service's own settings.

cache: claims and look-ups, in a store in memory: requests that ask for no cached answer touch none.
batcher: windows, rows and results, with a model that answers at once.
Both finish up to 500 records in one transaction, as a processor does by default.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from millpond_batcher.engine import Completion, Engine, Fault
from millpond_batcher.lane import Lane
from millpond_batcher.limit import Limit
from millpond_batcher.replica import Replica
from millpond_batcher.revival import Revival
from millpond_batcher.settings import BatcherSettings, policy_of
from millpond_cache.breaker import Breaker
from millpond_cache.lookup import Lookup
from millpond_cache.memory_store import MemoryStore
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.settings import CacheServiceSettings
from millpond_cache.thresholds import Judged, Thresholds
from millpond_cache.verifier import TritonVerifier
from millpond_cache.worker import CacheWorker
from millpond_core.cache_client import Cache
from millpond_core.lanes import Lanes
from millpond_core.processor import ProcessorSettings
from millpond_core.service import Runtime, run
from millpond_core.stage import Settle
from millpond_core.stage_service import serve_stage

ROWS = ProcessorSettings().transaction_records
"""Of the model: it is not what a transaction waits for."""

ANSWER = Completion("The mill stands by the pond.", "stop", 40, 7)


class AnswersAtOnce(Engine):
    """A model that costs nothing."""

    def __init__(self) -> None:
        """Nothing to be connected to."""

    async def complete(
        self,
        prompt: str,
        sampling: str,
        *,
        timeout_s: float,
        urgent: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Completion:
        del prompt, sampling, timeout_s, urgent, headers
        return ANSWER

    async def fault(self) -> Fault | None:
        return None

    async def close(self) -> None: ...


async def serve_cache(settings: CacheServiceSettings, runtime: Runtime) -> None:
    cache = settings.cache
    store = MemoryStore()
    # Requests bypass the cache here, so neither store nor verifier is ever asked.
    lookup = Lookup(
        store,
        Recent(cache.recent_mb * 1e6),
        Forgotten(),
        Breaker(store, cache.lookup_timeout_s),
        TritonVerifier(settings.triton),
        Thresholds(cache, Judged()),
        cache,
        runtime.clock,
    )

    def make_worker(settle: Settle) -> CacheWorker:
        return CacheWorker(settle, lookup, runtime.crashed)

    await serve_stage("cache", settings, runtime, make_worker, claims=True)


async def serve_batcher(settings: BatcherSettings, runtime: Runtime) -> None:
    small = settings.model_of_role("small").model_copy(update={"max_rows": ROWS, "max_batch_tokens": ROWS * 4096})
    own = settings.batcher.model_copy(
        update={"standard_rows": ROWS, "standard_wait_s": 0, "refill_rows": 1, "batch_tokens": ROWS * 4096}
    )

    # Nobody is there, and what waited is asked of the model all the same.
    cache = Cache(settings.cache_grpc, own.cache_timeout_s, runtime.tracing)

    def make_worker(settle: Settle) -> Lanes:
        engine = AnswersAtOnce()
        limit = Limit(ROWS, least=ROWS, spare=0, target_s=own.queue_target_s)
        replica = Replica(engine, Revival(engine, small.name, reload=False), limit, small.name)
        lane = Lane(
            small,
            [replica],
            policy=policy_of(settings, own, small),
            settings=own,
            settle=settle,
            cache=cache,
            large=settings.model_of_role("frontier").name,
            clock=runtime.clock,
            tracing=runtime.tracing,
            opened=lambda _: runtime.ready("model", True),
            crashed=runtime.crashed,
        )
        return Lanes({small.name: lane}, settle, "is not here")

    try:
        await serve_stage("batcher", settings, runtime, make_worker)
    finally:
        await cache.close()


if __name__ == "__main__":
    if sys.argv[1] == "cache":
        run("bench-cache", CacheServiceSettings, serve_cache)
    run("bench-batcher", BatcherSettings, serve_batcher)
