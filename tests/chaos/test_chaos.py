"""Nothing is lost and nothing comes twice, whatever is harmed. README.md says how to run more of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
)

from millpond_cli.chaos.report import broken, figures, words
from millpond_cli.chaos.run import Outcome, Plan, run_chaos
from millpond_cli.chaos.schedule import Fault, Step
from millpond_cli.setup.home import home
from millpond_cli.stack import Stack, free_port_base

BOUND_S = 120.0
"""Until something that must come is missed: a hang's bound, far above what a slow machine needs."""

LOOK_S = 0.1

DISK_MB = 256
"""Of a disk that Kafka fills: its hundred partitions' files take some 30 MB before the first record."""


def told(line: str) -> None:
    print(line, flush=True)


def nothing_is_broken(outcome: Outcome) -> None:
    told(words(outcome.found, outcome.course))
    assert broken(figures(outcome.found, outcome.course)) == []


def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_killed(tmp_path: Path) -> None:
    """What does this test do? It kills every service, Triton, Milvus and Kafka while a thousand requests flow, freezes
    a replica until others have its work and wakes it again, and then counts: each request has one result.

    How does it do it? A stack of real components with an echo in the models' place and two replicas of each service is
    harmed ten times on a seeded schedule, while a seeded load is sent: requests, copies of them, conflicts, unreadable
    records, and calls of the sync tier. Everything that lies on ai.results and ai.deadletter in the end is compared
    with what was accepted; the echo's file of calls says how often the models were asked.
    """
    nothing_is_broken(run_chaos(home(), tmp_path, free_port_base(), Plan(1000, 10, 7, replicas=2), told))


def test_what_hangs_or_answers_nonsense_costs_time_and_no_request(tmp_path: Path) -> None:
    """What does this test do? Milvus and Triton stop answering while their connections stay open, Kafka is killed twice
    with transactions in flight, and each seventh answer of every model makes no sense. Each request has one result all
    the same, none of them an error: a cache that is away is a miss, and a garbled answer is asked for again.

    How does it do it? SIGSTOP and SIGCONT for the hangs, SIGKILL for Kafka; the echo garbles its own answers.
    """
    steps = [
        Step(3.0, "milvus", Fault.FREEZE, 6.0),
        Step(3.0, "triton", Fault.FREEZE, 8.0),
        Step(12.0, "kafka", Fault.KILL),
        Step(6.0, "kafka", Fault.KILL),
    ]
    plan = Plan(600, len(steps), 11)
    garbled = {"MILLPOND_ECHO_GARBLED": "7"}
    outcome = run_chaos(home(), tmp_path, free_port_base(), plan, told, steps=steps, environment=garbled)
    nothing_is_broken(outcome)
    assert outcome.found.retries > 0
    assert not outcome.found.errors


def test_a_kafka_without_transactions_or_without_room_loses_nothing(tmp_path: Path) -> None:
    """What does this test do? Under load Kafka takes no transactions for a while, so that no outcome can be written;
    then its disk fills up, so that it ends and cannot start again, until there is room. What Kafka had accepted has its
    one result, and so has what waited to be accepted meanwhile.

    How does it do it? Kafka's own topic of transactions is told to take records of one byte. Kafka's folder is a small
    tmpfs of its own, and a file takes all that is left of it.
    """
    disk = tmp_path / "data" / "kafka"
    disk.mkdir(parents=True)

    def harm(stack: Stack, struck: Callable[[Step], None]) -> None:
        struck(Step(0.0, "kafka", Fault.FREEZE))
        set_largest_transaction(stack, 1)
        awaited_death(stack, "cache")
        struck(Step(0.0, "kafka", Fault.FREEZE))
        set_largest_transaction(stack, 1_048_588)
        stack.wait_ready("cache")
        fill(disk, stack, struck)

    with small_disk(disk):
        plan = Plan(600, 0, 13, load_s=40)
        nothing_is_broken(run_chaos(home(), tmp_path, free_port_base(), plan, told, steps=(), trouble=harm))


def fill(disk: Path, stack: Stack, struck: Callable[[Step], None]) -> None:
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(1 << 16))
        except OSError:
            pass
    awaited_death(stack, "kafka")
    struck(Step(0.0, "kafka", Fault.KILL))
    ballast.unlink()
    stack.wait_ready("kafka")


def set_largest_transaction(stack: Stack, size: int) -> None:
    """In bytes, of what the coordinator notes about a transaction."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "__transaction_state", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result(BOUND_S)


def awaited_death(stack: Stack, name: str) -> None:
    until = time.monotonic() + BOUND_S
    while not stack.status()[name].restarts:
        assert time.monotonic() < until, f"{name} goes on"
        time.sleep(LOOK_S)


@contextmanager
def small_disk(folder: Path) -> Generator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a disk of its own cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
