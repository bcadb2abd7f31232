"""A tenant's own name for requests that it sent together: `metadata.batch`."""

from __future__ import annotations

from typing import NamedTuple

from millpond.v1 import request_pb2

BATCH = "batch"
"""The metadata's name for it."""


class BatchName(NamedTuple):
    tenant: str
    name: str

    @property
    def key(self) -> bytes:
        """It in one: there is no slash in a tenant's name."""
        return f"{self.tenant}/{self.name}".encode()


def batch_of(request: request_pb2.Request) -> BatchName | None:
    return BatchName(request.tenant, name) if (name := request.metadata.get(BATCH)) else None
