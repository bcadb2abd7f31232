"""Makes the signals that end a program leave its `with` blocks in order."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""SIGINT raises KeyboardInterrupt by itself."""


def _leave(signum: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + signum)


@contextmanager
def signals_end() -> Generator[None]:
    """Inside, SIGTERM and SIGHUP raise SystemExit in the main thread, with the code a shell would give."""
    before = {signum: signal.signal(signum, _leave) for signum in SIGNALS}
    # A parent that ran this in the background may have left it ignored.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
