"""The pages that say how a service is."""

from __future__ import annotations

import aiohttp
import pytest

from millpond_core import metrics
from millpond_core.health import Readiness, serving
from millpond_core.settings import WrongSetting


async def page(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_ready_is_when_everything_named_is() -> None:
    readiness = Readiness()
    async with serving(readiness, "127.0.0.1", 0) as port:
        assert await page(port, "/readyz") == (503, "service: starting\n")
        readiness.set("kafka", False, "not assigned yet")
        readiness.set("milvus", False, "away")
        assert await page(port, "/readyz") == (503, "kafka: not assigned yet\nmilvus: away\n")
        readiness.set("kafka", True)
        assert await page(port, "/readyz") == (503, "milvus: away\n")
        readiness.set("milvus", True)
        assert await page(port, "/readyz") == (200, "ready\n")
        readiness.set("kafka", False, "lost")
        assert await page(port, "/readyz") == (503, "kafka: lost\n")
        assert await page(port, "/healthz") == (200, "ok\n")


async def test_metrics_are_served() -> None:
    metrics.RECORDS_TAKEN.labels("ai.requests", "router").inc()
    async with serving(Readiness(), "127.0.0.1", 0) as port:
        status, text = await page(port, "/metrics")
    assert status == 200
    assert 'millpond_records_taken_total{stage="router",topic="ai.requests"}' in text


async def test_a_taken_port_is_named() -> None:
    async with serving(Readiness(), "127.0.0.1", 0) as port:
        with pytest.raises(WrongSetting, match=f"port {port} .* MILLPOND_HTTP_PORT"):
            async with serving(Readiness(), "127.0.0.1", port):
                pass
