"""Hears ai.control: everything that stands on it first, then what comes."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from millpond_core import topics
from millpond_core.control import Control
from millpond_core.processor import Broker, Partition, Reader, Unreachable

logger = logging.getLogger(__name__)

POLL_RECORDS = 500

POLL_S = 0.25
"""Seconds that a poll waits where nothing comes; a record ends the wait at once."""

RETRY_S = 1.0
"""Seconds between two tries while Kafka does not answer."""


@dataclass(frozen=True)
class Listener:
    """starts: where each partition is read on."""

    control: Control
    reader: Reader
    starts: dict[Partition, int]

    async def listen(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "control")
        try:
            for partition, start in self.starts.items():
                await loop.run_in_executor(thread, self.reader.follow, partition, start)
            while True:
                self.control.hear(await loop.run_in_executor(thread, self.reader.poll, POLL_RECORDS, POLL_S))
        finally:
            thread.submit(self.reader.close)
            thread.shutdown(wait=False)


async def caught_up(broker: Broker, partitions: int, control: Control) -> Listener:
    """A listener that has heard what was said until now: a process that starts again runs nothing that was cancelled.

    Call it before the broker is polled; it waits for as long as Kafka does not answer.
    """
    starts: dict[Partition, int] = {}
    for number in range(partitions):
        partition = Partition(topics.CONTROL, number)
        while partition not in starts:
            try:
                starts[partition] = await asyncio.to_thread(_hear_all, control, broker, partition)
            except Unreachable as failure:
                logger.warning("waiting for %s: Kafka does not answer: %s", topics.CONTROL, failure)
                await asyncio.sleep(RETRY_S)
    control.news()
    return Listener(control, broker.reader(), starts)


def _hear_all(control: Control, broker: Broker, partition: Partition) -> int:
    following = 0
    for records, end in broker.read(partition, 0):
        control.hear(records)
        following = end
    return following
