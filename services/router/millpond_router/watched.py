"""A file that may be replaced while the router runs: what it holds now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks: how long a switch takes at most."""

T = TypeVar("T")


class Watched(Generic[T]):
    """value: what was read last without an error; None until then, and after the file was taken away.

    file: whose replacement is noticed. read: raises `failure` where it cannot be used; its words go to the log.
    """

    def __init__(self, what: str, file: Path, read: Callable[[], T], failure: type[Exception]) -> None:
        self.value: T | None = None
        self._what = what
        self._file = file
        self._read = read
        self._failure = failure
        self._seen: tuple[int, ...] | None = None

    def look(self) -> None:
        """Read it where it was replaced. What cannot be used is named in the log, and leaves the value as it was."""
        stamp = self._stamp()
        if stamp == self._seen and stamp is not None:
            return
        first, self._seen = self._seen is None, stamp
        if stamp is None:
            if self.value is not None:
                logger.warning("%s: %s was taken away", self._what, self._file)
            self.value = None
            return
        try:
            self.value = self._read()
        except self._failure as failure:
            # No traceback: the file is at fault, not the code.
            logger.error("%s: %s: %s", self._what, "not used" if first else "what was there stays in use", failure)  # noqa: TRY400
        else:
            logger.info("%s: in use", self._what, extra={"file": str(self._file)})

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
