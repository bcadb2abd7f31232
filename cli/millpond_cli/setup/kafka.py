"""Apache Kafka through Maven: its jars in one folder."""

from __future__ import annotations

import shutil

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Say
from millpond_cli.setup.errors import SetupError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.stamp import digest, is_current, write

POM = REPOSITORY / "stack" / "kafka" / "pom.xml"


def _made_from() -> str:
    return digest("copy-dependencies", [POM])


def is_ready(home: Home) -> bool:
    return is_current(home.kafka_libs.with_name("stamp"), _made_from())


def make(home: Home, commands: Commands, say: Say) -> None:
    """Raises SetupError."""
    say("fetching it through Maven, 43 MB")
    partial = home.kafka_libs.with_name("libs.partial")
    shutil.rmtree(partial, ignore_errors=True)
    maven = ["mvn", "--batch-mode", "--no-transfer-progress", "--file", str(POM)]
    finished = commands.run([*maven, "dependency:copy-dependencies", f"-DoutputDirectory={partial}"])
    if finished.code != 0 or not partial.is_dir():
        raise SetupError(f"Maven could not fetch Kafka:\n{finished.tail}")
    shutil.rmtree(home.kafka_libs, ignore_errors=True)
    partial.rename(home.kafka_libs)
    write(home.kafka_libs.with_name("stamp"), _made_from())
