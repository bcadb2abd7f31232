"""Faust and its Kafka transport, with what at-least-once rests on made impossible to get wrong."""

from __future__ import annotations

from typing import Any

import aiokafka
import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import Message


class ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Producers may write requests in transactions; Faust reads committed records only where it writes in one.
        consumer._isolation_level = "read_committed"  # pyright: ignore[reportPrivateUsage]
        return consumer


class Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def ack(self, message: Message) -> bool:  # noqa: ARG002
        """Never. Faust acknowledges by itself what it skips in a rebalance and what is read while a stream ends."""
        return False

    def sent(self, message: Message) -> None:
        """What became of this record is written.

        To be called in the order of the offsets: Faust's commit steps over one record that is missing at its start.
        """
        super().ack(message)

    def check(self) -> None:
        """Raise what ended aiokafka's work in the group. Faust does not look, and would wait for ever."""
        consumer: Any = self._thread._consumer  # pyright: ignore[reportPrivateUsage]
        coordinator = consumer and consumer._coordinator
        if coordinator:
            coordinator.check_errors()


class Producer(driver.Producer):
    def _settings_extra(self) -> dict[str, Any]:
        # Faust has it only for its transactions. With it, a send is tried until it is acknowledged, and written once.
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    Consumer = Consumer
    Producer = Producer


class App(faust.App):
    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: they would be for tables."""
