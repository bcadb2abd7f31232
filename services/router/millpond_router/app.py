"""The router's shell: Faust reads the requests; what becomes of each record is on ai.routed or ai.deadletter before the
record counts as read. There is no other way to acknowledge one (at_least_once.py).

    take a batch ─▶ accept, embed, decide (routing.py) ─▶ send, and wait for the broker ─▶ acknowledge, in order
"""

from __future__ import annotations

import asyncio
import logging
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn, cast

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TP, EventT
from yarl import URL

from millpond_core import metrics, topics
from millpond_core.embedder import Embedder
from millpond_core.processor import Headers, Outgoing, Partition, Record
from millpond_core.processor.confluent_reader import ConfluentReader
from millpond_core.service import Runtime
from millpond_core.settings import Settings
from millpond_core.telemetry import OnceAWhile
from millpond_core.topic_admin import await_topics
from millpond_core.topics import TOPICS, bound_topics
from millpond_router import head_folder, header_names
from millpond_router import rules as rule_files
from millpond_router.accept import Terms
from millpond_router.ahead import Ahead, latest_ms
from millpond_router.at_least_once import App, Consumer
from millpond_router.brain import Brain
from millpond_router.decide import model_names, policy_of
from millpond_router.embedding_window import EmbeddingWindow
from millpond_router.embeddings import NoEmbeddings, WindowedEmbeddings
from millpond_router.kafka_client import Client, NoCounterpart, client_of
from millpond_router.language import LanguageDetector
from millpond_router.learning import learn
from millpond_router.remembered import RememberedEmbeddings
from millpond_router.routing import SERVICE, Embeddings, Item, Routing
from millpond_router.rules import RulesError
from millpond_router.settings import RouterSettings

logger = logging.getLogger(__name__)

WITHIN_S = 0.01
"""How long a batch fills: what a lone request waits at most, and how often an idle router looks up."""

SESSION_S = 6.0
"""Until the partitions of a replica that died go to another: the least that brokers allow by default. A replica that
comes back under its own number has them at once: members are static."""

COMMIT_S = 1.0
"""Between two commits: what a router that was killed does again at most."""

LARGEST_RECORD = 5 << 20
"""Bytes: what ai.requests lets through, and the headers that a dead letter adds."""

BUFFERED = 256
"""Records that Faust holds beyond those that were taken."""

STOP_S = 5.0
"""What Faust has to leave its group; it can hang. Everything is acknowledged and committed before."""

CHATTY = ("faust", "mode", "aiokafka", App.__module__)
"""Loggers that tell of every part of Faust that starts or stops."""

REPEATING = ("aiokafka", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator", "aiokafka.producer.sender")
"""Loggers that say ten times a second that Kafka is away. The router says so itself."""

WATCH_S = 5.0
"""Between two looks whether Kafka answers."""


class FaustFailed(Exception):
    """Faust gave up, on a Kafka that was away for too long for example. Nothing is lost: the next process goes on."""


async def serve(settings: RouterSettings, runtime: Runtime) -> None:
    """Route until told to stop. Raises FaustFailed."""
    policy = policy_of(settings, settings.router.quality)
    try:
        rules = rule_files.load(settings.router.rules or rule_files.SHIPPED, policy.targets)
        client = client_of({name: value.get_secret_value() for name, value in settings.kafka.items()})
    except RulesError as failure:
        _refuse_to_start(failure.lines)
    except NoCounterpart as failure:
        _refuse_to_start([str(failure)])
    if client.unused:
        logger.warning("settings of kafka that the router's client has not", extra={"unused": client.unused})
    _quieten(settings)
    runtime.ready("partitions", False, "not assigned yet")
    loading = asyncio.create_task(asyncio.to_thread(LanguageDetector))
    requests = (topic for topic in TOPICS if SERVICE in topic.readers and topic.name != topics.FEEDBACK)
    reads = [*requests, *bound_topics(settings.tenants_by_topic)]
    writes = [topic for topic in TOPICS if SERVICE in topic.writers]
    ids = await runtime.unless_stopping(await_topics(settings, [*reads, *writes], runtime.ready))
    own = settings.router
    embedder = Embedder(settings.triton, own.embed_timeout_s)
    encoder = Embedder(settings.triton, own.embed_timeout_s, own.encoder) if own.encoder else None
    resembled = {target.resembles for target in policy.models if target.resembles}
    labels = rules.labels()
    labels["domains"].update(*(target.domains for target in policy.models))
    brain = Brain(own.heads or head_folder.SHIPPED, own.calibration, models=resembled, labels=labels)
    shadow = None
    if own.shadow_heads:
        shadow = Brain(own.shadow_heads, what="candidate heads", models=resembled, without="nothing is compared")
    brains = [each for each in (brain, shadow) if each is not None]
    for each in brains:
        await asyncio.to_thread(each.look)
    routing = Routing(
        terms=Terms(settings.limits, settings.router.max_request_bytes, model_names(policy), settings.tiers),
        policy=policy,
        rules=rules,
        language=await loading,
        embeddings=_embeddings(settings, embedder, runtime) if own.embed else NoEmbeddings(),
        encoder=_embeddings(settings, encoder, runtime) if encoder else None,
        topic_ids=ids,
        tenants=settings.tenants_by_topic,
        clock=runtime.clock,
        tracing=runtime.tracing,
        brain=brain,
        shadow=shadow,
    )
    beside: list[asyncio.Task[None]] = [asyncio.create_task(each.keep()) for each in brains]
    if own.embed:
        beside.append(asyncio.create_task(routing.keep_examples()))
    if own.embed or encoder:
        beside += [asyncio.create_task(each.meet(encoder or embedder)) for each in brains]
    beside.append(asyncio.create_task(learn(settings, brain, teach=own.learn)))
    for task in beside:
        task.add_done_callback(partial(_ended, runtime))
    try:
        await Intake(settings, client, [topic.name for topic in reads], routing, runtime).run()
    finally:
        for task in beside:
            task.cancel()
        await embedder.close()
        if encoder:
            await encoder.close()


def _ended(runtime: Runtime, task: asyncio.Task[None]) -> None:
    """Of work beside the requests that goes on for ever: what ended it is not to be missed."""
    if not task.cancelled() and (failure := task.exception()):
        runtime.crashed(failure)


def _embeddings(settings: RouterSettings, embedder: Embedder, runtime: Runtime) -> Embeddings:
    own = settings.router
    window = EmbeddingWindow(own.embed_timeout_s)
    windowed = WindowedEmbeddings(embedder, window, urgent_s=own.embed_timeout_s, patient_s=own.embed_wait_s)
    return RememberedEmbeddings(windowed, runtime.clock)


class Intake:
    """Faust, from the assignment of partitions to the acknowledgement of every record."""

    def __init__(
        self, settings: RouterSettings, client: Client, reads: Sequence[str], routing: Routing, runtime: Runtime
    ) -> None:
        self._settings = settings
        self._routing = routing
        self._runtime = runtime
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Semaphore(settings.router.batches_in_flight)
        self._started = asyncio.Event()
        self._batches: list[asyncio.Task[None]] = []
        """In the order of taking; each acknowledges after the one before it."""
        self._app = _faust_app(settings, client, reads)
        self._app.on_rebalance_complete.connect(self._assigned, weak=False)
        self._app.on_partitions_revoked.connect(self._revoked, weak=False)
        reader = ConfluentReader(settings.kafka_client({}), f"millpond-{SERVICE}-scout")
        latest = latest_ms(settings.tiers, settings.router.max_request_bytes)
        self._ahead = Ahead(reader, latest, self._route_soon, self._end, runtime.clock)
        channel = self._app.topic(*reads, key_serializer="raw", value_serializer="raw", allow_empty=True)
        self._app.agent(channel, name=SERVICE)(self._take)

    async def run(self) -> None:
        stopping = asyncio.create_task(self._runtime.stopping.wait())
        faust_ended = asyncio.create_task(self._run_faust())
        watching = asyncio.create_task(self._watch())
        ahead = asyncio.create_task(self._ahead.run())
        try:
            ends = (self._failed, watching, ahead, faust_ended)
            await asyncio.wait((stopping, *ends), return_when=asyncio.FIRST_COMPLETED)
            for ended in ends:
                if ended.done():
                    await ended
            await self._drain()
        finally:
            for task in (stopping, watching, ahead):
                task.cancel()
            await self._stop_faust()
            faust_ended.cancel()
            await self._ahead.close()

    # While it runs

    async def _run_faust(self) -> NoReturn:
        await self._app.start()
        self._started.set()
        await self._app.wait_until_stopped()
        raise FaustFailed from self._app.crash_reason

    async def _assigned(self, *_: object, **__: object) -> None:
        # The first send waits for the topics' partitions; the first request shall not.
        for topic in (topics.ROUTED, topics.DEADLETTER):
            await self._producer.partitions_for(topic)
        logger.info("assigned", extra={"partitions": sorted(map(tuple, self._consumer.assignment()))})
        self._runtime.ready("partitions", True)

    async def _revoked(self, *signal: Any, **__: object) -> None:
        _, revoked, *_ = signal
        self._ahead.lost(Partition(*each) for each in revoked)

    def _end(self, partition: Partition) -> int | None:
        # What was taken before a rebalance may be reached after it.
        if TP(*partition) not in self._consumer.assignment():
            return None
        # As the last fetch found it: asking the broker takes Faust's thread a second where there is much to do.
        return self._consumer.highwater(TP(*partition))

    @property
    def _consumer(self) -> Consumer:
        return cast(Consumer, self._app.consumer)

    @property
    def _producer(self) -> AIOKafkaProducer:
        return cast(Any, self._app.producer)._producer

    async def _watch(self) -> NoReturn:
        """Say when Kafka is away: Faust and its client only try again, for as long as it takes.

        Raises what ended the client's work in the group.
        """
        address = self._settings.kafka_bootstrap
        while True:
            self._consumer.check()
            try:
                async with asyncio.timeout(WATCH_S):
                    await self._started.wait()
                    answers = await self._producer.client.force_metadata_update()
            except TimeoutError:
                answers = False
            self._runtime.ready("kafka", answers, f"waiting for Kafka at {address}")
            if not answers:
                logger.warning("waiting for Kafka at %s: what is taken is kept, and goes on when it is back", address)
            await asyncio.sleep(WATCH_S)

    async def _take(self, stream: faust.StreamT[bytes]) -> None:
        events: Sequence[EventT[bytes]]
        async for events in cast(Any, stream).noack_take(self._settings.router.batch, within=WITHIN_S):
            await self._room.acquire()
            if self._runtime.stopping.is_set():
                # What is taken from here on is not acknowledged: it is the next process's.
                await asyncio.Event().wait()
            records = self._ahead.reached([_record_of(event) for event in events])
            before = self._batches[-1] if self._batches else None
            batch = asyncio.create_task(self._work(events, records, before))
            self._batches.append(batch)
            batch.add_done_callback(self._worked)

    async def _work(
        self, events: Sequence[EventT[bytes]], records: Sequence[Record], before: Awaitable[None] | None
    ) -> None:
        """Events from taken to acknowledged. Acknowledges nothing where anything fails, here or before.

        records: those of the events that were not routed before their turn.
        """
        items = self._routing.take(records)
        urgent, patient = [each for each in items if each.urgent], [each for each in items if not each.urgent]
        await asyncio.gather(self._write(urgent, urgent=True), self._write(patient, urgent=False))
        if before is not None:
            await before
        for event in events:
            self._consumer.sent(event.message)
        for topic, count in Counter(event.message.topic for event in events).items():
            metrics.RECORDS_FINISHED.labels(topic, SERVICE).inc(count)

    async def _route_soon(self, records: Sequence[Record]) -> None:
        await self._write(self._routing.take(records), urgent=True)

    async def _write(self, items: Sequence[Item], *, urgent: bool) -> None:
        sends = [await self._send(each) for each in await self._routing.outgoing(items, urgent=urgent)]
        for sent in sends:
            await sent

    async def _send(self, outgoing: Outgoing) -> Awaitable[object]:
        # Without a key too, aiokafka takes no record without a value; nor would a dead letter be any the poorer.
        value = b"" if outgoing.key is None and outgoing.value is None else outgoing.value
        headers = list(outgoing.headers)
        return await self._app.producer.send(outgoing.topic, outgoing.key, value, None, None, headers)

    def _worked(self, batch: asyncio.Task[None]) -> None:
        self._batches.remove(batch)
        self._room.release()
        failure = None if batch.cancelled() else batch.exception()
        if failure is not None and not self._failed.done():
            self._failed.set_exception(failure)

    # When it is to stop

    async def _drain(self) -> None:
        """Finish what is taken, and commit. What is not done in time is not acknowledged."""
        if self._batches:
            await asyncio.wait(tuple(self._batches), timeout=self._settings.drain_s)
        for batch in self._batches:
            batch.cancel()
        await self._consumer.commit()

    async def _stop_faust(self) -> None:
        # Not wait_for, which waits for what it has cancelled.
        _, hanging = await asyncio.wait((asyncio.create_task(self._app.stop()),), timeout=STOP_S)
        if hanging:
            logger.warning("Faust did not stop in %s s: it is left behind", STOP_S)


def _faust_app(settings: RouterSettings, client: Client, reads: Sequence[str]) -> App:
    name = f"millpond-{SERVICE}"
    header_names.install()
    return App(
        name,
        broker=[URL(f"kafka://{address.strip()}") for address in settings.kafka_bootstrap.split(",")],
        broker_credentials=client.credentials,
        store="memory://",
        # With other topics it is another member: aiokafka ends over an assignment of topics that it does not read.
        consumer_group_instance_id=f"{name}-{settings.replica}-{zlib.crc32(','.join(sorted(reads)).encode()):x}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=LARGEST_RECORD,
        producer_max_request_size=LARGEST_RECORD,
        stream_buffer_maxsize=BUFFERED,
        # It would wait for records that were skipped in a rebalance, for ever. `_drain` waits for what was taken.
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        **cast(
            Any, {"broker_session_timeout": SESSION_S, "broker_heartbeat_interval": SESSION_S / 6, **client.settings}
        ),
        broker_commit_interval=COMMIT_S,
    )


def _record_of(event: EventT[bytes]) -> Record:
    message = event.message
    # A header's value may be none at all; it goes to the dead letters as it came.
    headers = cast(Headers, tuple(message.headers or ()))
    partition = Partition(message.topic, message.partition)
    timestamp_ms = round(message.timestamp * 1000)
    return Record(partition, message.offset, timestamp_ms, message.key, message.value, headers)


def _quieten(settings: Settings) -> None:
    if settings.log_level == "info":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
    if settings.log_level != "debug":
        for name in REPEATING:
            logging.getLogger(name).addFilter(OnceAWhile())


def _refuse_to_start(lines: Iterable[str]) -> NoReturn:
    for line in lines:
        print(f"millpond-{SERVICE}: {line}", file=sys.stderr)
    raise SystemExit(2)
