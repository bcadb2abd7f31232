"""Writes what is said on a call to Kafka: the sync tier's finished answers, and what people say to the cache."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from millpond_core.processor import LARGEST_RECORD_BYTES, Outgoing
from millpond_core.processor.confluent_reader import is_fatal
from millpond_core.settings import Settings

logger = logging.getLogger(__name__)

WAITING_KB = 65_536
"""Kilobytes that wait for a Kafka that is away; what comes beyond it is not published."""

RECONNECT_MS = 1000
"""Milliseconds between two tries to reach a broker that is away, at most."""

IN_FLIGHT = 1
"""Requests on their way to a broker. One that does not know a producer yet takes any first sequence number, so of two
it may refuse the first, while it becomes the leader, and take the second: the first is then never written. Seen after a
broker's restart: sequence 1 was the partition's first, and nobody had heard of an error."""

POLL_S = 0.2
"""Seconds that the thread waits for news before it looks whether it is to end; news end the wait at once."""

CLOSE_S = 2.0
"""Seconds that records have to get out at the end."""


class Publisher:
    """An idempotent producer for callers of one event loop. It keeps trying for as long as the process lives."""

    def __init__(self, settings: Settings, crashed: Callable[[BaseException], None], what: str) -> None:
        """crashed: hears of an error after which the producer is good for nothing. what: one record, in the log."""
        self._crashed = crashed
        self._what = what
        self._producer = Producer(
            settings.kafka_client(
                {
                    "enable.idempotence": True,
                    "max.in.flight": IN_FLIGHT,
                    "partitioner": "murmur2_random",
                    "linger.ms": 0,
                    "message.max.bytes": LARGEST_RECORD_BYTES,
                    "message.timeout.ms": 0,
                    "queue.buffering.max.kbytes": WAITING_KB,
                    "reconnect.backoff.max.ms": RECONNECT_MS,
                }
            ),
            logger=logger,
        )
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._thread.start()

    async def publish(self, record: Outgoing, wait_s: float) -> bool:
        """Whether the broker has it, within that time. Where not, it may still get there later."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[bool] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if error is not None:
                logger.error("%s is not published: %s", self._what, error.str())
                if is_fatal(error):
                    self._crashed(KafkaException(error))
            if not delivered.done():
                delivered.set_result(error is None)

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(settle, error)

        try:
            self._producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=on_delivery
            )
        except (KafkaException, BufferError) as failure:
            logger.error("%s is not published: %s", self._what, failure)  # noqa: TRY400
            return False
        try:
            async with asyncio.timeout(wait_s):
                return await delivered
        except TimeoutError:
            logger.warning("%s waits for Kafka", self._what)
            return False

    async def close(self) -> None:
        left = await asyncio.to_thread(self._producer.flush, CLOSE_S)
        if left:
            logger.error("%s: %d were not published", self._what, left)
        self._closing.set()
        await asyncio.to_thread(self._thread.join)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(POLL_S)
