"""What there is to set up, and what each piece needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from millpond_cli.setup import environments, kafka, milvus, model_files
from millpond_cli.setup.commands import Commands
from millpond_cli.setup.environments import Environment, Say
from millpond_cli.setup.home import Home


@dataclass(frozen=True)
class Piece:
    """needs: pieces made before it. programs: what must be on the machine, where it is to be made or not."""

    name: str
    is_ready: Callable[[Home], bool]
    make: Callable[[Home, Commands, Say], None]
    needs: tuple[str, ...] = ()
    programs_to_make: tuple[str, ...] = ()
    programs_to_run: tuple[str, ...] = ()


def _environment(name: str, of: Callable[[Home], Environment]) -> Piece:
    def make(home: Home, commands: Commands, say: Say) -> None:
        uv = home.env / "bin" / "uv"
        environments.make(of(home), uv if uv.exists() else None, commands, say)

    return Piece(name, is_ready=lambda home: of(home).is_ready, make=make)


KAFKA = Piece("kafka", kafka.is_ready, kafka.make, programs_to_make=("mvn",), programs_to_run=("java",))
MILVUS = Piece("milvus", milvus.is_ready, milvus.make)
MODELS = _environment("models", environments.models)
MODEL_FILES = Piece("model-files", model_files.is_ready, model_files.make, needs=("models",))
TORCH = _environment("torch", environments.torch)
GPTCACHE = _environment("gptcache", environments.gptcache)

FOR_STACK = (KAFKA, MILVUS, MODELS, MODEL_FILES)
FOR_TESTS = (*FOR_STACK, TORCH)
