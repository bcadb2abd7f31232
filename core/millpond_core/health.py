"""/healthz, /readyz and /metrics of a service.

/healthz answers 200 while the event loop runs. /readyz answers 200 when everything that was named is ready, else 503
with what is missing, in words. /metrics is for Prometheus.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import REGISTRY, exposition

from millpond_core.settings import WrongSetting


class Readiness:
    """What a service needs before it can work, and what of it is missing."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {"service": "starting"}

    def set(self, name: str, ready: bool, reason: str = "") -> None:
        """name: "kafka". reason: what is missing, for a person: "not assigned yet"."""
        self._missing.pop("service", None)
        if ready:
            self._missing.pop(name, None)
        else:
            self._missing[name] = reason or "not ready"

    @property
    def reasons(self) -> list[str]:
        """["kafka: not assigned yet"]; empty when ready."""
        return [f"{name}: {reason}" for name, reason in self._missing.items()]


@asynccontextmanager
async def serving(readiness: Readiness, host: str, port: int) -> AsyncGenerator[int]:
    """While it is open, the three pages are served. Gives the port, which 0 leaves to the system.

    Raises WrongSetting where it cannot listen there.
    """
    app = web.Application()
    app.add_routes(
        [web.get("/healthz", _healthz), web.get("/readyz", _readyz(readiness)), web.get("/metrics", _metrics)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise WrongSetting(f"port {port} on {host} is taken: set MILLPOND_HTTP_PORT to a free one") from failure
            raise WrongSetting(f"MILLPOND_HTTP_HOST={host}: cannot listen on port {port} there: {failure}") from failure
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readyz(readiness: Readiness):
    async def page(_: web.Request) -> web.Response:
        reasons = readiness.reasons
        return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ["ready"]) + "\n")

    return page


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})
