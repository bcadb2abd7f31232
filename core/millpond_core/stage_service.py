"""Runs a stage behind the claim as a process: the same for cache, batcher and frontier but for their workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException

from millpond.v1 import control_pb2
from millpond_core import topics
from millpond_core.control import Control, Invalidated
from millpond_core.control_listener import caught_up
from millpond_core.dead_letter import dead_letter
from millpond_core.envelope import as_requested, described
from millpond_core.errors import Code
from millpond_core.processor import Claims, Finish, Outgoing, Processor, ProcessorSettings, Record
from millpond_core.processor.confluent_broker import ConfluentBroker
from millpond_core.service import Runtime
from millpond_core.settings import Settings, WrongSetting
from millpond_core.stage import Settle, Stage, Worker
from millpond_core.topic_admin import await_topics, watch_kafka
from millpond_core.topics import TOPICS

logger = logging.getLogger(__name__)

RETRY_S = 1.0
"""Seconds between two tries to join the group while Kafka is not there."""


async def serve_stage(
    service: str,
    settings: Settings,
    runtime: Runtime,
    make_worker: Callable[[Settle], Worker],
    *,
    processor: ProcessorSettings | None = None,
    claims: bool = False,
    invalidated: Invalidated | None = None,
) -> None:
    """Work on every topic that `topics.TOPICS` gives this service to read, until it is told to stop.

    make_worker: called once, when Kafka is there. claims: requests enter the stages here.
    invalidated: hears orders to forget answers, in the event loop, all that stand on ai.control before it is ready.
    ai.learn is not read: it is no request. Raises Fenced when another process takes this replica's place, and
    WrongSetting where claims cannot be kept.
    """
    kept = _claims_folder(settings) if claims else None
    runtime.ready("kafka", False, "not joined yet")
    declared = [topic for topic in TOPICS if service in topic.readers or service in topic.writers]
    ids = await runtime.unless_stopping(await_topics(settings, declared, runtime.ready))
    reads = [topic.name for topic in declared if service in topic.readers and topic.name in topics.ENVELOPES]
    broker = await runtime.unless_stopping(_join(service, settings, reads))

    control = Control(_in_the_loop(invalidated) if invalidated else None)
    listener = await runtime.unless_stopping(caught_up(broker, settings.partitions, control))

    def make_strategy(finish: Finish) -> Stage:
        return Stage(
            service,
            finish,
            make_worker,
            models=settings.models,
            clock=runtime.clock,
            tracing=runtime.tracing,
            control=control,
        )

    running = Processor(
        broker,
        make_strategy,
        processor or ProcessorSettings(drain_s=settings.drain_s),
        runtime.clock,
        stage=service,
        claims=Claims(topics.CLAIMS, ids[topics.CLAIMS], kept, topics.CLAIM_RETENTION_MS) if kept else None,
        conflict=_conflict(service),
        describe=described,
    )
    working = asyncio.create_task(running.run())
    watching = asyncio.create_task(watch_kafka(settings, runtime.ready))
    listening = asyncio.create_task(listener.listen())
    stopping = asyncio.create_task(runtime.stopping.wait())
    runtime.ready("kafka", True)
    try:
        await asyncio.wait((working, listening, stopping), return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
        running.stop()
        await working
    finally:
        for task in (working, listening, watching, stopping):
            task.cancel()
        await asyncio.wait((working, listening))


def _in_the_loop(invalidated: Invalidated) -> Invalidated:
    """What stands on ai.control at the start is read in another thread."""
    loop = asyncio.get_running_loop()

    def heard(order: control_pb2.Invalidate, given_s: float) -> None:
        loop.call_soon_threadsafe(invalidated, order, given_s)

    return heard


def _claims_folder(settings: Settings) -> Path:
    folder = settings.state_dir / "claims"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise WrongSetting(f"MILLPOND_STATE_DIR={settings.state_dir}: cannot be written: {failure.strerror}") from None
    return folder


def _conflict(service: str) -> Callable[[Record], Outgoing]:
    def make(record: Record) -> Outgoing:
        message = "a request with this id and another body was accepted before: use another id"
        return dead_letter(as_requested(record), service, Code.ID_CONFLICT, message)

    return make


async def _join(service: str, settings: Settings, reads: list[str]) -> ConfluentBroker:
    client = settings.kafka_client({})
    while True:
        try:
            return await asyncio.to_thread(ConfluentBroker, client, f"millpond-{service}", settings.replica, reads)
        except KafkaException as failure:
            logger.warning("waiting for Kafka at %s: %s", settings.kafka_bootstrap, failure.args[0].str())
            await asyncio.sleep(RETRY_S)
