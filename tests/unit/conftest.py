"""What the tests of compose and Kubernetes files share; manifests.py has the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from millpond_cli.setup import manifest_tools as setup
from millpond_cli.setup.commands import Commands
from millpond_cli.setup.home import home
from millpond_cli.setup.prerequisites import go_is_there
from millpond_core.settings import PREFIX, Settings

# Test support beside the tests is imported by name.
sys.path.insert(0, str(Path(__file__).parent))

from manifests import SettingsOf


@pytest.fixture(scope="session")
def manifest_tools() -> Path:
    """The folder of `compose` and `kustomize`, which are built where that was not done yet."""
    if not setup.is_ready(home()):
        if not go_is_there():
            pytest.skip("no Go 1.21 or newer here: compose and Kubernetes files are not rendered by their own tools")
        setup.make(home(), Commands(), print)
    return home().root / "manifest-tools"


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """(service, environment) → the service's settings as it would read them there; no other variable counts."""

    def load(service: str, environment: Mapping[str, str]) -> Settings:
        module = pytest.importorskip(f"millpond_{service}.settings", reason=f"millpond_{service} is not there yet")
        candidates = [each for each in vars(module).values() if isinstance(each, type)]
        (own,) = (each for each in candidates if issubclass(each, Settings) and each.__module__ == module.__name__)
        for name in list(os.environ):
            if name.startswith(PREFIX):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return own()

    return load
