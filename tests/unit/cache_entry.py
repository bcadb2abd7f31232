"""An answer that is kept, for tests of what becomes of it."""

from __future__ import annotations

from millpond_cache.store import Entry

NOW = 1_000_000.0

ENTRY = Entry(
    key="k",
    tenant="acme",
    partition="p",
    embedder="e",
    text="how deep is the sea",
    model="small",
    output="Deep.",
    finish_reason="stop",
    input_tokens=6,
    output_tokens=2,
    source_id="r-1",
    answered_at=NOW - 10,
    expires_at=int(NOW) + 60,
    tag="sea",
)
