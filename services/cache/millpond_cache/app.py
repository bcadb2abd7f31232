"""The cache as a process: the stage, the learner, the sync tier's look-ups, and what keeps the store at hand."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from millpond.v1 import control_pb2, feedback_pb2
from millpond_cache.accuracy import Accuracy
from millpond_cache.breaker import Breaker
from millpond_cache.cacheable import shipped_head
from millpond_cache.evidence import Evidence, gather
from millpond_cache.house import House
from millpond_cache.judge import Judge, judging_consumer
from millpond_cache.learner import Learner, learning_consumer
from millpond_cache.ledger import Ledger
from millpond_cache.lesson import keeping_of
from millpond_cache.lookup import Lookup
from millpond_cache.milvus_store import MilvusStore
from millpond_cache.orders import Orders
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.sampler import Sampler
from millpond_cache.server import CacheServer, serving
from millpond_cache.settings import CacheServiceSettings
from millpond_cache.thresholds import Judged, Thresholds
from millpond_cache.verifier import TritonVerifier
from millpond_cache.worker import CacheWorker
from millpond_cache.worth import Uses
from millpond_core import topics
from millpond_core.codec import PROTOBUF
from millpond_core.embedder import Embedder
from millpond_core.identity import key_of
from millpond_core.processor import Outgoing, ProcessorSettings
from millpond_core.processor.confluent_reader import ConfluentReader
from millpond_core.publisher import Publisher
from millpond_core.service import Runtime
from millpond_core.stage import Settle
from millpond_core.stage_service import serve_stage

logger = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Requests of one partition looked up at the same time. 64 look-ups in 64 spaces, the worst case, took 100 ms in one
Milvus; more at once would be slower than a look-up may be, and better wait in Kafka."""

TOLD_S = 2.0
"""Seconds that Kafka has to take an order while whoever gave it waits."""

ALL_TENANTS = "*"
"""The key of an order of all tenants; none can have that name."""


async def serve(settings: CacheServiceSettings, runtime: Runtime) -> None:
    cache = settings.cache
    token = cache.milvus_token.get_secret_value() if cache.milvus_token else ""
    store = MilvusStore(settings.milvus, cache.dimension, token)
    recent = Recent(cache.recent_mb * 1e6)
    breaker = Breaker(store, cache.lookup_timeout_s)
    verifier = TritonVerifier(settings.triton)
    judged, ledger, forgotten, uses = Judged(), Ledger(), Forgotten(), Uses()
    thresholds = Thresholds(cache, judged)
    publisher = Publisher(settings, runtime.crashed, "an order, a judgement or a sample")
    sampler = Sampler(settings, cache.sample_share, publisher, runtime.tracing, runtime.clock)
    lookup = Lookup(
        store,
        recent,
        forgotten,
        breaker,
        verifier,
        thresholds,
        cache,
        runtime.clock,
        ledger=ledger,
        sampler=sampler,
        uses=uses,
    )
    house = House(store, uses, {each.name: each.price.synchronous for each in settings.models}, runtime.clock)
    keeping = keeping_of(cache, shipped_head())
    learner = Learner(learning_consumer(settings), store, recent, forgotten, keeping, runtime.clock)
    orders = Orders(store, recent, forgotten, runtime.clock, partial(_tell, publisher))
    embedder = Embedder(settings.triton)
    judge = Judge(judging_consumer(settings), embedder, partial(_say, publisher))
    evidence = Evidence(judged, ledger, Accuracy(cache.judge_sensitivity, cache.judge_specificity))
    reader = ConfluentReader(settings.kafka_client({}), f"millpond-cache-evidence-{settings.replica}")

    def make_worker(settle: Settle) -> CacheWorker:
        return CacheWorker(settle, lookup, runtime.crashed)

    processor = ProcessorSettings(max_poll_records=IN_FLIGHT, max_in_flight=IN_FLIGHT, drain_s=settings.drain_s)
    server = CacheServer(
        lookup,
        store,
        recent,
        orders,
        keeping,
        thresholds,
        partial(_say, publisher),
        ledger,
        embedder,
        runtime.tracing,
        runtime.clock,
        settings.limits,
    )
    async with serving(server, settings.grpc_host, settings.grpc_port) as port:
        logger.info("look-ups and orders are served", extra={"grpc_port": port})
        stage = asyncio.create_task(
            serve_stage(
                "cache",
                settings,
                runtime,
                make_worker,
                processor=processor,
                claims=True,
                invalidated=orders.heard,
            )
        )
        background = [
            asyncio.create_task(work)
            for work in (
                breaker.run(),
                learner.run(),
                orders.run(),
                judge.run(),
                gather(reader, settings.partitions, evidence),
                house.keep(cache.max_entries if settings.replica == 0 else None),
            )
        ]
        try:
            ended, _ = await asyncio.wait({stage, *background}, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                each.result()
        finally:
            for each in (stage, *background):
                each.cancel()
            await asyncio.gather(stage, *background, return_exceptions=True)
            await publisher.close()
            await verifier.close()
            await embedder.close()
            await store.close()


async def _tell(publisher: Publisher, order: control_pb2.Invalidate) -> None:
    """Where Kafka does not take it in time, it does later, while this process lives."""
    key = (order.tenant or ALL_TENANTS).encode()
    value = control_pb2.Control(invalidate=order).SerializeToString()
    await publisher.publish(Outgoing(topics.CONTROL, key, value, PROTOBUF), TOLD_S)


async def _say(publisher: Publisher, judgement: feedback_pb2.Feedback) -> None:
    key = key_of(judgement.tenant, judgement.cache.source_id)
    await publisher.publish(Outgoing(topics.FEEDBACK, key, judgement.SerializeToString(), PROTOBUF), TOLD_S)
