"""A real gRPC server of the cache, on a store that a test brings along."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from cache_heads import CALIBRATION, KnowingVerifier, heads
from millpond.v1 import control_pb2, feedback_pb2, services_pb2_grpc
from millpond_cache.accuracy import CERTAIN
from millpond_cache.breaker import Breaker
from millpond_cache.evidence import Evidence
from millpond_cache.ledger import Ledger
from millpond_cache.lesson import keeping_of
from millpond_cache.lookup import Lookup
from millpond_cache.orders import Orders
from millpond_cache.recent import Forgotten, Recent
from millpond_cache.server import CacheServer, serving
from millpond_cache.settings import CacheSettings
from millpond_cache.store import Store
from millpond_cache.thresholds import Judged, Thresholds
from millpond_core.clock import ManualClock
from millpond_core.embedder import Embedder
from millpond_core.telemetry import Tracing
from millpond_core.validate import Limits

NOW = 1_800_000_000.0
SETTINGS = CacheSettings(lookup_timeout_s=60)


@asynccontextmanager
async def served(store: Store) -> AsyncGenerator[str]:
    """Its address. Without an embedder: exact answers only."""
    clock = ManualClock(NOW)
    recent, forgotten, judged, ledger = Recent(1e6), Forgotten(), Judged(), Ledger()
    thresholds = Thresholds(SETTINGS, judged, CALIBRATION)
    breaker = Breaker(store, 60)
    lookup = Lookup(store, recent, forgotten, breaker, KnowingVerifier(), thresholds, SETTINGS, clock, heads(), ledger)

    async def tell(order: control_pb2.Invalidate) -> None:
        assert order.order

    async def say(judgement: feedback_pb2.Feedback) -> None:
        """As ai.feedback does it."""
        Evidence(judged, ledger, CERTAIN).hear([judgement])

    embedder = Embedder("127.0.0.1:1")
    server = CacheServer(
        lookup,
        store,
        recent,
        Orders(store, recent, forgotten, clock, tell),
        keeping_of(SETTINGS, heads().cacheability),
        thresholds,
        say,
        ledger,
        embedder,
        Tracing(),
        clock,
        Limits(),
    )
    async with serving(server, "127.0.0.1", 0) as port:
        yield f"127.0.0.1:{port}"
    await embedder.close()


@asynccontextmanager
async def asked(store: Store) -> AsyncGenerator[Any]:
    """A stub of it."""
    async with served(store) as address, grpc.aio.insecure_channel(address) as channel:
        yield services_pb2_grpc.CacheServiceStub(channel)
