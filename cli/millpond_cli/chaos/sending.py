"""Sends a load: to Kafka, and some of it through the sync tier, again and again until it is accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
from confluent_kafka import KafkaError, Message, Producer

from millpond.v1 import request_pb2, services_pb2_grpc
from millpond_cli.chaos.load import Sending
from millpond_core import json_codec, topics
from millpond_core.codec import READ_LIMIT_BYTES
from millpond_core.settings import Settings

CALLERS = 8
"""Calls of the sync tier at the same time."""

CALL_S = 20.0
"""Of one call, before it is given up and made again."""

TRIES = 30

AGAIN_S = 0.5
"""Between two calls for the same request."""

FLUSH_S = 180.0
"""Seconds that Kafka has to take the last records."""

PUBLISHED = "millpond-published"
"""Trailing metadata of a call: "false" where the answer is not on its way to ai.results yet."""

LOOK_S = 0.05


class Senders:
    """accepted, doubtful: what Kafka or the sync tier has confirmed, and what it has not. again: repeated calls."""

    def __init__(
        self, settings: Settings, sync: Sequence[str], load: Sequence[Sending], progress: Callable[[], float]
    ) -> None:
        """sync: addresses of the sync tier, host:port. progress: from 0 to 1, how much of the load is due."""
        self._load = load
        self._progress = progress
        self._producer = Producer(
            settings.kafka_client(
                {
                    "partitioner": "murmur2_random",
                    "enable.idempotence": True,
                    # As the frontier's publisher: with more, a record may count as written that is not.
                    "max.in.flight": 1,
                    "message.max.bytes": READ_LIMIT_BYTES,
                    # It keeps trying: a broker that is away comes back.
                    "message.timeout.ms": 0,
                    "reconnect.backoff.max.ms": 1000,
                    "log_level": 0,
                }
            )
        )
        self._channels = [grpc.insecure_channel(address) for address in sync]
        self._lock = threading.Lock()
        self._accepted: set[int] = set()
        self.again = 0
        self.sent = 0

    @property
    def accepted(self) -> list[Sending]:
        with self._lock:
            return [each for number, each in enumerate(self._load) if number in self._accepted]

    @property
    def doubtful(self) -> list[Sending]:
        with self._lock:
            return [each for number, each in enumerate(self._load) if number not in self._accepted]

    def run(self) -> None:
        with ThreadPoolExecutor(CALLERS, "sync") as callers:
            for number, sending in enumerate(self._load):
                while min(sending.at, 1.0) > self._progress():
                    self._producer.poll(LOOK_S)
                if sending.sync:
                    callers.submit(self._call, number, sending)
                else:
                    key = sending.key if sending.id else None
                    taken = partial(self._delivered, number)
                    self._producer.produce(topics.REQUESTS, sending.body, key, on_delivery=taken)
                self._producer.poll(0)
                self.sent = number + 1
            self._producer.flush(FLUSH_S)
        for channel in self._channels:
            channel.close()

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        del message
        if error is None:
            with self._lock:
                self._accepted.add(number)

    def _call(self, number: int, sending: Sending) -> None:
        """One request of the sync tier, under its id until an answer is published. A replica that is away has peers."""
        request = json_codec.decode(sending.body, request_pb2.Request)
        for attempt in range(TRIES):
            if attempt:
                with self._lock:
                    self.again += 1
                time.sleep(AGAIN_S)
            stub = services_pb2_grpc.InferenceStub(self._channels[(number + attempt) % len(self._channels)])
            try:
                _, call = stub.Infer.with_call(request, timeout=CALL_S)
            except grpc.RpcError:
                continue
            if dict(call.trailing_metadata() or ()).get(PUBLISHED) != "false":
                with self._lock:
                    self._accepted.add(number)
                return
