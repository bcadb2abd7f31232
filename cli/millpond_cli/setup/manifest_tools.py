"""What reads compose and Kubernetes manifests as their own tools do, built by Go out of pinned modules; for tests only.

`compose` is the loader that docker compose is made of (stack/manifest_tools/compose), `kustomize` the real one. Both
take 20 s to build the first time.
"""

from __future__ import annotations

import os

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Say
from millpond_cli.setup.errors import SetupError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.stamp import digest, is_current, write

SOURCE = REPOSITORY / "stack" / "manifest_tools"

PACKAGES = {"compose": "./compose", "kustomize": "sigs.k8s.io/kustomize/kustomize/v5"}

BUILD = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w")


def _made_from() -> str:
    return digest(
        " ".join([*PACKAGES.values(), *BUILD]), [SOURCE / "go.mod", SOURCE / "go.sum", SOURCE / "compose" / "main.go"]
    )


def is_ready(home: Home) -> bool:
    return is_current(home.root / "manifest-tools" / "stamp", _made_from())


def make(home: Home, commands: Commands, say: Say) -> None:
    """Raises SetupError."""
    say("building kustomize and the compose loader, once; 20 seconds")
    folder = home.root / "manifest-tools"
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in PACKAGES.items():
        build = ["go", "build", "-C", str(SOURCE), *BUILD, "-o", str(folder / name), package]
        finished = commands.run(build, environment={**os.environ, "CGO_ENABLED": "0"})
        if finished.code != 0:
            raise SetupError(f"Go could not build {name}:\n{finished.tail}")
    write(folder / "stamp", _made_from())
