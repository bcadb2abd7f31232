"""What all tests share: the real components, started when a test first asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from millpond_cli.here import settings_of
from millpond_cli.stack import Stack, free_port_base
from pipeline import Pipeline

REPOSITORY = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("millpond", deadline=None)
hypothesis.settings.load_profile("millpond")
"""How long an example takes is the machine's affair, not a law."""

HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka without topics."""
    run = tmp_path_factory.mktemp("kafka")
    with Stack(HOME, free_port_base(), only={"kafka"}, run=run) as stack:
        yield stack.addresses.kafka


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Everything, as `./millpond up` starts it, with data of its own: laws hold over all that lies on its topics."""
    with Stack(HOME, free_port_base(), run=tmp_path_factory.mktemp("pipeline")) as stack:
        yield Pipeline(stack.addresses, settings_of(stack.addresses))
