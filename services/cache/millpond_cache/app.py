"""The cache as a process: the stage, the learner, the sync tier's look-ups, and what keeps the store at hand."""

from __future__ import annotations

import asyncio
import logging

from millpond_cache.breaker import Breaker
from millpond_cache.cacheable import shipped_head
from millpond_cache.learner import Learner, learning_consumer
from millpond_cache.ledger import Ledger
from millpond_cache.lesson import Keeping
from millpond_cache.lookup import Lookup
from millpond_cache.milvus_store import MilvusStore
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.server import CacheServer, serving
from millpond_cache.settings import CacheServiceSettings
from millpond_cache.store import Store, StoreRefused, StoreUnavailable
from millpond_cache.thresholds import Judged, Thresholds
from millpond_cache.verifier import TritonVerifier
from millpond_cache.worker import CacheWorker
from millpond_core.clock import Clock
from millpond_core.embedder import Embedder
from millpond_core.processor import ProcessorSettings
from millpond_core.service import Runtime
from millpond_core.stage import Settle
from millpond_core.stage_service import serve_stage

logger = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Requests of one partition looked up at the same time. 64 look-ups in 64 spaces, the worst case, took 100 ms in one
Milvus; more at once would be slower than a look-up may be, and better wait in Kafka."""

SWEEP_S = 600.0
"""Seconds between two times that expired entries are thrown away; they are not given out in between."""


async def serve(settings: CacheServiceSettings, runtime: Runtime) -> None:
    cache = settings.cache
    token = cache.milvus_token.get_secret_value() if cache.milvus_token else ""
    store = MilvusStore(settings.milvus, cache.dimension, token)
    recent = Recent(cache.recent_mb * 1e6)
    breaker = Breaker(store, cache.lookup_timeout_s)
    verifier = TritonVerifier(settings.triton)
    judged, ledger, forgotten = Judged(), Ledger(), Forgotten()
    thresholds = Thresholds(cache, judged)
    lookup = Lookup(
        store, recent, breaker, verifier, thresholds, cache, runtime.clock, ledger=ledger, forgotten=forgotten
    )
    keeping = Keeping(cache.ttl_s, cache.max_temperature, cache.dimension, shipped_head())
    learner = Learner(learning_consumer(settings), store, recent, keeping, runtime.clock)
    embedder = Embedder(settings.triton)

    def make_worker(settle: Settle) -> CacheWorker:
        return CacheWorker(settle, lookup, runtime.crashed)

    processor = ProcessorSettings(max_poll_records=IN_FLIGHT, max_in_flight=IN_FLIGHT, drain_s=settings.drain_s)
    server = CacheServer(
        lookup,
        store,
        recent,
        forgotten,
        keeping,
        thresholds,
        judged,
        ledger,
        embedder,
        runtime.tracing,
        runtime.clock,
    )
    async with serving(server, settings.grpc_host, settings.grpc_port) as port:
        logger.info("look-ups and orders are served", extra={"grpc_port": port})
        stage = asyncio.create_task(
            serve_stage("cache", settings, runtime, make_worker, processor=processor, claims=True)
        )
        background = [
            asyncio.create_task(work) for work in (breaker.run(), learner.run(), _sweep(store, runtime.clock))
        ]
        try:
            ended, _ = await asyncio.wait({stage, *background}, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                each.result()
        finally:
            for each in (stage, *background):
                each.cancel()
            await asyncio.gather(stage, *background, return_exceptions=True)
            await verifier.close()
            await embedder.close()
            await store.close()


async def _sweep(store: Store, clock: Clock) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await store.forget_expired(clock.now())
        except (StoreUnavailable, StoreRefused) as failure:
            logger.warning("expired answers stay for now: %s", failure)
