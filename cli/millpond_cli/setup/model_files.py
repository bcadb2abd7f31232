"""The model files, fetched and built by models/prepare.py in the models' environment."""

from __future__ import annotations

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Say
from millpond_cli.setup.errors import SetupError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.stamp import digest, is_current, write

PREPARE = REPOSITORY / "models" / "prepare.py"
RECIPES = (PREPARE, PREPARE.with_name("minilm_graph.py"), PREPARE.parent / "verifier" / "1" / "changes.npz")

STAMP = "millpond.stamp"


def is_ready(home: Home) -> bool:
    """By the stamp: to hash the files themselves takes a second at every start."""
    return is_current(home.assets / STAMP, digest("prepare", RECIPES))


def make(home: Home, commands: Commands, say: Say) -> None:
    """Raises SetupError."""
    finished = commands.run([str(home.models_python), str(PREPARE), "--target", str(home.assets)], each_line=say)
    if finished.code != 0:
        raise SetupError(f"the model files could not be prepared:\n{finished.tail}")
    write(home.assets / STAMP, digest("prepare", RECIPES))
