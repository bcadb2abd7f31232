"""Where what was set up lies: one folder, `.millpond/` in the repository or `MILLPOND_HOME`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
"""The checkout that this file is part of."""


@dataclass(frozen=True)
class Home:
    """The folder's places. Nothing here looks whether they exist."""

    root: Path

    @property
    def env(self) -> Path:
        """The workspace's environment, made by the `millpond` script."""
        return self.root / "env"

    @property
    def models_env(self) -> Path:
        return self.root / "models-env"

    @property
    def torch_env(self) -> Path:
        return self.root / "torch-env"

    @property
    def gptcache_env(self) -> Path:
        return self.root / "gptcache-env"

    @property
    def models_python(self) -> Path:
        return self.models_env / "bin" / "python"

    @property
    def torch_python(self) -> Path:
        return self.torch_env / "bin" / "python"

    @property
    def assets(self) -> Path:
        """The model files."""
        return self.root / "models"

    @property
    def kafka_libs(self) -> Path:
        return self.root / "kafka" / "libs"

    @property
    def milvus_binaries(self) -> Path:
        return self.root / "milvus" / "bin"

    @property
    def jaeger_binary(self) -> Path:
        return self.root / "jaeger" / "jaeger"

    @property
    def run(self) -> Path:
        """What a running stack keeps: logs, data, who it is."""
        return self.root / "run"


def home(environment: Mapping[str, str] = os.environ) -> Home:
    given = environment.get("MILLPOND_HOME")
    return Home(Path(given).expanduser().absolute() if given else REPOSITORY / ".millpond")
