"""Which file the services of a stack read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from millpond_cli.setup.home import REPOSITORY
from millpond_core.settings import FILE_VARIABLE

SHIPPED = REPOSITORY / "config" / "millpond.yaml"


def configuration(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """given: on the command line, which goes before the environment's; the shipped one where neither names one."""
    inherited = environment.get(FILE_VARIABLE)
    return (given or Path(inherited or SHIPPED)).absolute()
