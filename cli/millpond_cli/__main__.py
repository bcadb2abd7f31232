"""The command line: `./millpond COMMAND`, or `python -m millpond_cli COMMAND` in the workspace's environment."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from millpond_cli.commands import (
    batch,
    bench,
    cache,
    cancel,
    chaos,
    deadletter,
    demo,
    down,
    eval,
    feedback,
    logs,
    recalibrate,
    route,
    send,
    shadow,
    simulate,
    status,
    tail,
    test,
    up,
)
from millpond_cli.errors import CommandError
from millpond_cli.setup.errors import SetupError
from millpond_cli.stack import DidNotStart, NotSetUp, StackError, signals_end

app = typer.Typer(
    name="millpond",
    help="Millpond holds AI requests until a cache, a small model or a full batch can answer them cheaply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(test.test)
app.command("chaos")(chaos.chaos)
app.add_typer(deadletter.app, name="deadletter")
app.command("up")(up.up)
app.command("down")(down.down)
app.command("status")(status.status)
app.command("send")(send.send)
app.command("cancel")(cancel.cancel)
app.command("hold")(batch.hold)
app.command("resume")(batch.resume)
app.command("tail")(tail.tail)
app.command("logs")(logs.logs)
app.command("simulate")(simulate.simulate)
app.command("route")(route.route)
app.command("feedback")(feedback.feedback)
app.command("recalibrate")(recalibrate.recalibrate)
app.command("shadow")(shadow.shadow)
app.add_typer(eval.app, name="eval")
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")


def main() -> NoReturn:
    """Run a command. What a person can put right is one line on stderr and status 2; after Ctrl-C the status is 130."""
    # As the system hands over what is not UTF-8. No text of a request, no name and no id may be so.
    if broken := [number for number, word in enumerate(sys.argv[1:], 1) if not _is_utf_8(word)]:
        fail(f"argument {broken[0]} is not UTF-8", 2)
    try:
        with signals_end():
            app(prog_name="./millpond", standalone_mode=True)
    except CommandError as failure:
        fail(str(failure), failure.exit_code)
    except SetupError as failure:
        fail(str(failure), failure.exit_code)
    except (DidNotStart, NotSetUp) as failure:
        fail(str(failure), 1)
    except StackError as failure:
        fail(str(failure), 2)
    except BrokenPipeError:
        # The reader of a pipe has seen enough, as in `./millpond logs router | head`.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(0)


def _is_utf_8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def fail(line: str, code: int) -> NoReturn:
    print(f"millpond: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
