"""Milvus out of the Python package that carries it: its programs unpacked in one folder."""

from __future__ import annotations

import lzma
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Say
from millpond_cli.setup.errors import Missing
from millpond_cli.setup.home import Home
from millpond_cli.setup.stamp import digest, is_current, write

NOT_HERE = "the local stack runs on Linux on x86-64: elsewhere install Docker and use docker-compose.yml"
"""Milvus and Triton exist as packages for that machine only."""


def package_data() -> Path:
    """The package's folder of packed programs and templates. Raises Missing."""
    # find_spec does not run the package, which would set up a server at import.
    spec = find_spec("milvus")
    if spec is None or not spec.submodule_search_locations:
        raise Missing(NOT_HERE)
    return Path(spec.submodule_search_locations[0]) / "data"


def _made_from() -> str:
    try:
        return digest(f"milvus {version('milvus')}")
    except PackageNotFoundError:
        raise Missing(NOT_HERE) from None


def is_ready(home: Home) -> bool:
    return is_current(home.milvus_binaries.with_name("stamp"), _made_from())


def make(home: Home, commands: Commands, say: Say) -> None:
    """The folder appears whole or not at all. Raises Missing."""
    say("unpacking it, 246 MB")
    target = home.milvus_binaries
    partial = target.with_name("bin.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for packed in sorted((package_data() / "bin").glob("*.lzma")):
        commands.check()
        unpacked = partial / packed.stem
        with lzma.open(packed) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        unpacked.chmod(0o755)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    write(target.with_name("stamp"), _made_from())
