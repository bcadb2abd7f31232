"""Makes the topics, and holds those that stand to what topics.py declares.

    python -m millpond_core.topic_admin [--bootstrap HOST:PORT] [--partitions N] [--replication N]

makes what is missing. What is not given, and how Kafka is spoken to (TLS, SASL), are the services' settings. Exit
status 1, with one line on stderr for each difference, when a topic that stood before is another than it should be, or
Kafka does not answer; 2 for a wrong setting.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from millpond_core.settings import Settings, load
from millpond_core.topics import LARGEST, TOPICS, Topic, bound_topics

log = logging.getLogger(__name__)

ANSWER_S = 3.0
"""One question to Kafka: short enough to say every few seconds that it is away, and to stop when told to."""

CREATION_S = 15.0
"""Making all topics on a busy broker; then one that is away is named. librdkafka would take a minute."""

WATCH_S = 2.0
"""Between two questions whether Kafka is there."""

RETRY_S = 0.5
REPORT_S = 5.0
"""Between two log lines that say what is waited for."""

CHECKED = ("message.timestamp.type", "cleanup.policy", LARGEST)
"""Settings that correctness rests on: deadlines count from the append, claims are compacted, and no topic may refuse
what a service has to write; of the last, more does no harm. Others are an operator's to change."""


@dataclass(frozen=True)
class Standing:
    """A topic as it stands. config: those of CHECKED. id: the broker's, the same for as long as the topic lives."""

    id: str
    partitions: int
    config: Mapping[str, str]


class TopicsDiffer(Exception):
    """A topic stands that is not as it should be. The message says which, how, and what to do."""


def differences(topic: Topic, standing: Standing, partitions: int) -> list[str]:
    """One line each, with what to do."""
    lines: list[str] = []
    if standing.partitions != partitions:
        lines.append(
            f"{topic.name} has {standing.partitions} partitions, not {partitions}: a key must keep its partition, "
            "so set MILLPOND_PARTITIONS to what all topics have, or drain Millpond and make the topics anew"
        )
    for name in CHECKED:
        wanted, found = topic.settings.get(name), standing.config.get(name)
        if wanted is not None and not _will_do(name, wanted, found or ""):
            lines.append(
                f"{topic.name} has {name}={found}, not {wanted}: "
                f'kafka-configs.sh --alter --topic {topic.name} --add-config "{name}=[{wanted}]"'
            )
    return lines


def _will_do(name: str, wanted: str, found: str) -> bool:
    return int(found or 0) >= int(wanted) if name == LARGEST else _values(wanted) == _values(found)


def make_topics(admin: AdminClient, topics: Iterable[Topic], partitions: int, replication: int) -> list[str]:
    """Names of those that were missing and stand now. Blocks. Raises KafkaException."""
    new = [
        NewTopic(
            topic.name,
            num_partitions=partitions,
            replication_factor=replication,
            config=topic.settings,
        )
        for topic in topics
    ]
    made: list[str] = []
    for name, future in admin.create_topics(new, request_timeout=CREATION_S).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return made


def standing_topics(admin: AdminClient, names: Sequence[str]) -> dict[str, Standing]:
    """Those of the names that stand. Blocks for ANSWER_S at most per question. Raises KafkaException."""
    descriptions = admin.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_S)
    found = {name: description for name, future in descriptions.items() if (description := _existing(future))}
    if not found:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in found]
    configs = admin.describe_configs(resources, request_timeout=ANSWER_S)
    values = {resource.name: future.result() for resource, future in configs.items()}
    return {
        name: Standing(
            str(description.topic_id),
            len(description.partitions),
            {key: values[name][key].value for key in CHECKED},
        )
        for name, description in found.items()
    }


async def await_topics(
    settings: Settings, topics: Sequence[Topic], ready: Callable[[str, bool, str], None]
) -> dict[str, str]:
    """Wait, for as long as it takes, until Kafka answers and all these topics stand; {name: topic id}.

    ready: `Runtime.ready`; hears what "topics" lack. Give it up with `Runtime.unless_stopping`.
    Raises TopicsDiffer when a topic stands that is not as it should be.
    """
    trouble: list[str] = []
    admin = AdminClient(
        settings.kafka_client({"log_level": 0, "error_cb": lambda error: trouble.append(error.str())})  # pyright: ignore
    )
    names = [topic.name for topic in topics]
    reported_at = -REPORT_S
    while True:
        try:
            standing = await asyncio.to_thread(standing_topics, admin, names)
            missing = [name for name in names if name not in standing]
            reason = f"waiting for topics {', '.join(missing)}: make them with python -m millpond_core.topic_admin"
        except KafkaException as failure:
            standing, missing = {}, names
            admin.poll(0)
            reason = f"waiting for Kafka at {settings.kafka_bootstrap}: {trouble[-1] if trouble else failure}"
            trouble.clear()
        if not missing:
            break
        ready("topics", False, reason)
        if time.monotonic() - reported_at >= REPORT_S:
            log.warning(reason)
            reported_at = time.monotonic()
        await asyncio.sleep(RETRY_S)
    if lines := [line for topic in topics for line in differences(topic, standing[topic.name], settings.partitions)]:
        raise TopicsDiffer("; ".join(lines))
    ready("topics", True, "")
    return {name: topic.id for name, topic in standing.items()}


async def watch_kafka(settings: Settings, ready: Callable[[str, bool, str], None]) -> None:
    """Ask Kafka now and then whether it is there, and tell `ready` ("kafka"), until it is cancelled.

    An idle client hears nothing of a broker that is away.
    """
    admin = AdminClient(settings.kafka_client({"log_level": 0}))
    was_there = True
    while True:
        try:
            await asyncio.to_thread(admin.list_topics, TOPICS[0].name, ANSWER_S)
            is_there = True
        except KafkaException:
            is_there = False
        if is_there != was_there:
            reason = "" if is_there else f"waiting for Kafka at {settings.kafka_bootstrap}"
            ready("kafka", is_there, reason)
            log.warning(reason or "Kafka answers again")
        was_there = is_there
        await asyncio.sleep(WATCH_S)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m millpond_core.topic_admin", description="Makes Millpond's topics.")
    settings = load(Settings, "millpond-topics")
    parser.add_argument("--bootstrap", default=settings.kafka_bootstrap, metavar="HOST:PORT")
    parser.add_argument("--partitions", type=int, default=settings.partitions)
    parser.add_argument("--replication", type=int, default=settings.replication)
    given = parser.parse_args(arguments)
    admin = AdminClient(settings.kafka_client({"bootstrap.servers": given.bootstrap}))
    topics = (*TOPICS, *bound_topics(settings.tenants_by_topic))
    try:
        made = make_topics(admin, topics, given.partitions, given.replication)
        standing = _shown(admin, [topic.name for topic in topics])
    except KafkaException as failure:
        print(f"Kafka at {given.bootstrap}: {failure.args[0].str()}", file=sys.stderr)
        return 1
    print(f"topics: {len(made)} made, {len(topics) - len(made)} stood")
    lines = [f"{topic.name} was made, and Kafka does not show it" for topic in topics if topic.name not in standing]
    there = [topic for topic in topics if topic.name in standing]
    lines += [line for topic in there for line in differences(topic, standing[topic.name], given.partitions)]
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


def _shown(admin: AdminClient, names: Sequence[str]) -> dict[str, Standing]:
    """Those that stand, once all do: a broker may show a topic a moment after it was made. Raises KafkaException."""
    until = time.monotonic() + CREATION_S
    while len(standing := standing_topics(admin, names)) < len(names) and time.monotonic() < until:
        time.sleep(RETRY_S)
    return standing


def _existing(description: Future[Any]) -> Any | None:
    try:
        return description.result()
    except KafkaException as failure:
        if failure.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _values(setting: str) -> set[str]:
    """ "compact,delete" and "delete, compact" are the same."""
    return {part.strip() for part in setting.split(",")}


if __name__ == "__main__":
    sys.exit(main())
