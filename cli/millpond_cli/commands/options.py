"""Options that several commands have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from millpond_cli.errors import CommandError
from millpond_cli.stack import MODELS
from millpond_cli.stack.components import SPAN
from millpond_cli.stack.ports import check_base


def _fitting(port_base: int) -> int:
    """Raises CommandError before anything is set up or started."""
    if wrong := check_base(port_base, SPAN):
        raise CommandError(wrong)
    return port_base


PortBase = Annotated[
    int,
    typer.Option(
        metavar="NUMBER",
        callback=_fitting,
        help="First of the 200 ports that the stack uses. With a MILLPOND_HOME of its own a second stack fits beside.",
    ),
]

Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The services' settings, prices among them.  [default: config/millpond.yaml]"),
]

Model = Annotated[
    str,
    typer.Option(metavar="real|echo", help="The real models, or one that answers each prompt with itself, at once."),
]


Prompt = Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")]

MaxTokens = Annotated[int, typer.Option(min=1, max=2**32 - 1, help="The longest answer.")]


def prompt_of(argument: str) -> str:
    """Raises CommandError."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as failure:
        raise CommandError(f"standard input is not UTF-8: {failure}") from None


def known(model: str) -> str:
    """Raises CommandError."""
    if model not in MODELS:
        raise CommandError(f"--model {model}: must be {' or '.join(MODELS)}")
    return model


def existing(config: Path | None) -> Path | None:
    """Raises CommandError."""
    if config is not None and not config.is_file():
        raise CommandError(f"--config {config}: there is no such file")
    return config
