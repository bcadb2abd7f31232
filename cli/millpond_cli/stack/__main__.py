"""The stack from a shell: `python -m millpond_cli.stack up|down|status|run`. `run` stays in the foreground."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from millpond_cli.setup.home import Home, home
from millpond_cli.setup.jaeger import JaegerBuild
from millpond_cli.setup.progress import print_line
from millpond_cli.stack import DEFAULT_PORT_BASE, MODELS, Stack, StackError, down, running_state, signals_end, up


def replica_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not count.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} does not read SERVICE=COUNT")
    return name, int(count)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m millpond_cli.stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "run"))
    parser.add_argument("--home", type=Path, default=home().root)
    parser.add_argument("--run", type=Path, help="folder for logs, data and state, in place of HOME/run")
    parser.add_argument("--port-base", type=int, default=DEFAULT_PORT_BASE)
    parser.add_argument("--only", type=lambda text: frozenset(text.split(",")), help="exactly these, with commas")
    parser.add_argument("--replicas", type=replica_count, action="append", default=[], metavar="SERVICE=COUNT")
    parser.add_argument("--model", choices=tuple(MODELS), default="real", help="echo answers prompts by themselves")
    parser.add_argument("--config", type=Path, help="the services' configuration file")
    return parser.parse_args()


def show(run: Path) -> int:
    state = running_state(run)
    if state is None:
        print(f"no stack is up in {run}")
        return 1
    print(f"{state.phase}, supervisor {state.supervisor.pid}, port base {state.port_base}")
    for name, each in state.components.items():
        pid = each.identity.pid if each.identity else "-"
        ports = " ".join(f"{port}={number}" for port, number in each.ports.items() if not port.startswith("inner"))
        print(f"{name:12} {each.state:9} pid {pid:<8} restarts {each.restarts:<3} {ports}")
    return 0


def stay(given: argparse.Namespace, replicas: Mapping[str, int]) -> None:
    """Run a stack until a signal ends it. Jaeger is built beside it where it is part of it and not there yet."""
    with ExitStack() as inside:
        is_coming = False
        if given.only is None or "jaeger" in given.only:
            is_coming = inside.enter_context(JaegerBuild(Home(given.home.absolute()), print_line)).is_coming
        stack = Stack(
            given.home,
            given.port_base,
            only=given.only,
            replicas=replicas,
            config=given.config,
            model=given.model,
            run=given.run,
            jaeger_is_coming=is_coming,
        )
        inside.enter_context(stack)
        print_line("stack", "ready")
        threading.Event().wait()


def main() -> int:
    given = arguments()
    run: Path = (given.run or Home(given.home).run).absolute()
    replicas = dict(given.replicas)
    try:
        with signals_end():
            if given.command == "up":
                up(
                    given.home,
                    given.port_base,
                    only=given.only,
                    replicas=replicas,
                    config=given.config,
                    model=given.model,
                    run=given.run,
                    report=print_line,
                )
                return show(run)
            if given.command == "down":
                down(given.home, run=run)
                return 0
            if given.command == "status":
                return show(run)
            stay(given, replicas)
    except StackError as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
