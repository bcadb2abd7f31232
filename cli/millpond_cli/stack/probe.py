"""Asks a component whether it is ready."""

from __future__ import annotations

import asyncio
import struct

from millpond_cli.stack.description import HOST, Answers, SpeaksKafka

PATIENCE_S = 2.0
"""Seconds until an open question counts as no answer: ten times what a busy machine needs."""

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Kafka's ApiVersions request, version 0: length, key, version, correlation id, no client id."""


async def is_ready(check: Answers | SpeaksKafka, port: int) -> bool:
    """False for anything but the answer that says ready: refused, reset, late, another status."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            if isinstance(check, SpeaksKafka):
                return await _speaks_kafka(port)
            return await _status(port, check.path) == 200
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False


async def _speaks_kafka(port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(API_VERSIONS)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        correlation, error = struct.unpack(">ih", (await reader.readexactly(length))[:6])
        return (correlation, error) == (1, 0)
    finally:
        writer.close()


async def _status(port: int, path: str) -> int:
    """The status of a GET. Raises ValueError where the answer is not HTTP."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        protocol, status, *_ = (await reader.readline()).split(maxsplit=2)
        if not protocol.startswith(b"HTTP/"):
            raise ValueError(protocol)
        return int(status)
    finally:
        writer.close()
