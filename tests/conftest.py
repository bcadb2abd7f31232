"""What all tests share: the real components, each started once, when the first test asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond_cli.stack import Stack

# Test support beside the tests is imported by name.
sys.path.insert(0, str(Path(__file__).parent / "contract"))

REPOSITORY = Path(__file__).resolve().parents[1]

HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")

KAFKA_PORTS = 20_000
"""Port base of the Kafka that contract tests share; a stack that a person runs has another."""


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka without topics."""
    run = tmp_path_factory.mktemp("kafka")
    with Stack(HOME, KAFKA_PORTS, only={"kafka"}, run=run) as stack:
        yield stack.addresses.kafka
