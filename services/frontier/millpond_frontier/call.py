"""One accepted request of the sync tier while it is answered, for everyone who asks for it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from opentelemetry.trace import Span

from millpond.v1 import result_pb2
from millpond_frontier.accept import Accepted


class Call:
    """callers: how many listen. settled: the outcome is decided, and is published whoever still listens.

    given_up: nobody listened any more. span: of the caller who came first.
    """

    def __init__(self, accepted: Accepted, span: Span) -> None:
        self.accepted = accepted
        self.span = span
        self.callers = 0
        self.settled = False
        self.given_up = False
        self.published = False
        self._said: list[str] = []
        self._news = asyncio.Event()
        self._answering: asyncio.Task[result_pb2.Result] | None = None

    @property
    def begun(self) -> bool:
        """Whether anything of the answer was given out."""
        return bool(self._said)

    def start(
        self,
        answering: Coroutine[Any, Any, result_pb2.Result],
        ended: Callable[[asyncio.Task[result_pb2.Result]], None],
    ) -> None:
        self._answering = asyncio.create_task(answering)
        self._answering.add_done_callback(lambda _: self._tell())
        self._answering.add_done_callback(ended)

    def say(self, text: str) -> None:
        self._said.append(text)
        self._tell()

    async def pieces(self) -> AsyncGenerator[str]:
        """All of the text from its beginning, as it comes."""
        assert self._answering is not None
        heard = 0
        while heard < len(self._said) or not self._answering.done():
            if heard == len(self._said):
                await self._news.wait()
            else:
                yield self._said[heard]
                heard += 1

    async def result(self) -> result_pb2.Result:
        """Whoever is cancelled while waiting for it leaves it to the others."""
        assert self._answering is not None
        return await asyncio.shield(self._answering)

    def leave(self) -> None:
        """One caller goes. With the last one the work ends, but for an answer that is there."""
        self.callers -= 1
        if not self.callers and not self.settled and self._answering:
            self.given_up = True
            self._answering.cancel()

    async def ended(self) -> None:
        if self._answering:
            await asyncio.wait((self._answering,))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
