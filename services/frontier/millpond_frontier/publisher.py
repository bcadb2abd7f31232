"""Hands the sync tier's finished answers to the stages, where they are claimed and published like any other."""

from __future__ import annotations

import asyncio

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from millpond_core.processor import Outgoing
from millpond_core.settings import Settings

DELIVERY_MS = 5000
"""A caller waits for it: beyond it the answer goes out with the word that it was not published."""


class NotPublished(Exception):
    """Kafka did not take the answer."""


class Publisher:
    """An idempotent producer for callers of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer(
            settings.kafka_client(
                {
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",
                    "linger.ms": 0,
                    "message.timeout.ms": DELIVERY_MS,
                }
            )
        )
        self._polling = asyncio.create_task(self._poll())

    async def publish(self, record: Outgoing) -> None:
        """Returns once the broker has it. Raises NotPublished."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()

        def done(error: KafkaError | None, _message: Message) -> None:
            if not delivered.done():
                if error:
                    delivered.set_exception(NotPublished(error.str()))
                else:
                    delivered.set_result(None)

        try:
            self._producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=done
            )
        except (KafkaException, BufferError) as failure:
            raise NotPublished(str(failure)) from failure
        await delivered

    async def close(self) -> None:
        self._polling.cancel()
        await asyncio.to_thread(self._producer.flush, DELIVERY_MS / 1000)

    async def _poll(self) -> None:
        # Delivery reports come in this thread: poll(0) never waits, and 5 ms is what a report may be late.
        while True:
            self._producer.poll(0)
            await asyncio.sleep(0.005)
