"""Topics, made and held to their declarations, on a real Kafka."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka.admin import AdminClient

from cluster import fresh
from millpond_core.settings import Settings
from millpond_core.topic_admin import TopicsDiffer, await_topics, differences, main, make_topics, standing_topics
from millpond_core.topics import LARGEST, TOPICS, Topic

DECLARED = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact,delete"}


def declared(config: dict[str, str] | None = None) -> Topic:
    return Topic(fresh("declared"), ("producer",), ("consumer",), config=DECLARED if config is None else config)


@pytest.fixture
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def settings(kafka: str) -> Settings:
    return Settings(kafka_bootstrap=kafka, partitions=2)


class Ready:
    """What `Runtime.ready` heard, and an event for the first complaint."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool, str]] = []
        self.complained = asyncio.Event()

    def __call__(self, name: str, ready: bool, reason: str) -> None:
        self.heard.append((name, ready, reason))
        self.complained.set()


async def test_a_topic_is_made_once_and_keeps_its_id(admin: AdminClient, settings: Settings) -> None:
    topics = [declared(), declared()]
    assert set(make_topics(admin, topics, 2, 1)) == {topic.name for topic in topics}
    ids = await await_topics(settings, topics, Ready())
    assert make_topics(admin, topics, 2, 1) == []
    assert await await_topics(settings, topics, Ready()) == ids
    assert len(set(ids.values())) == 2
    for topic in topics:
        standing = standing_topics(admin, [topic.name])[topic.name]
        assert differences(topic, standing, 2) == []
        assert standing.config == {**DECLARED, LARGEST: topic.settings[LARGEST]}


@pytest.mark.parametrize(
    ("partitions", "config", "words"),
    [
        (3, DECLARED, ["3 partitions, not 2", "MILLPOND_PARTITIONS"]),
        (2, {**DECLARED, LARGEST: "1048588"}, [f"{LARGEST}=1048588, not 4194304", "kafka-configs.sh"]),
        (2, {}, ["message.timestamp.type=CreateTime, not LogAppendTime", "cleanup.policy=delete", "kafka-configs.sh"]),
    ],
)
async def test_what_differs_is_named_with_what_to_do(
    admin: AdminClient, settings: Settings, partitions: int, config: dict[str, str], words: list[str]
) -> None:
    topic = declared()
    make_topics(admin, [Topic(topic.name, (), (), config=config)], partitions, 1)
    with pytest.raises(TopicsDiffer) as refusal:
        await await_topics(settings, [topic], Ready())
    assert all(word in str(refusal.value) for word in [topic.name, *words])


async def test_a_missing_topic_is_waited_for_and_named(admin: AdminClient, settings: Settings) -> None:
    topic, ready = declared(), Ready()
    waiting = asyncio.create_task(await_topics(settings, [topic], ready))
    await ready.complained.wait()
    make_topics(admin, [topic], 2, 1)
    assert (await waiting).keys() == {topic.name}
    assert topic.name in ready.heard[0][2]
    assert ready.heard[-1] == ("topics", True, "")


async def test_a_kafka_that_is_away_is_waited_for_and_named() -> None:
    ready = Ready()
    waiting = asyncio.create_task(await_topics(Settings(kafka_bootstrap="127.0.0.1:1"), [declared()], ready))
    await ready.complained.wait()
    assert not waiting.done()
    waiting.cancel()
    assert "waiting for Kafka at 127.0.0.1:1" in ready.heard[0][2]


def test_the_command_makes_all_topics_and_says_what_differs(kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bootstrap", kafka]) == 0
    assert main(["--bootstrap", kafka]) == 0
    assert main(["--bootstrap", kafka, "--partitions", "3"]) == 1
    said = capsys.readouterr()
    assert f"0 made, {len(TOPICS)} stood" in said.out
    assert all(topic.name in said.err for topic in TOPICS)
