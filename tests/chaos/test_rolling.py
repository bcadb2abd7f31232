"""A deployment under load costs nobody anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from millpond_cli.chaos.report import broken, figures, words
from millpond_cli.chaos.run import Plan, run_chaos
from millpond_cli.chaos.schedule import SERVICES, Step
from millpond_cli.setup.home import home
from millpond_cli.stack import Stack, free_port_base

REPLICAS = 2


def roll(stack: Stack, struck: Callable[[Step], None]) -> None:
    """Each replica is told to end, as a deployment does, and is ready again before the next one is."""
    # A deployment is no fault: it is no excuse for a model's call.
    del struck
    for service in SERVICES:
        for number in range(REPLICAS):
            stack.restart(service if number == 0 else f"{service}-{number}")


def test_a_rolling_restart_loses_nothing_and_adds_no_error(tmp_path: Path) -> None:
    """What does this test do? While requests flow, both replicas of all services are restarted, one after the other.
    Each request has one result, and none of them is an error.

    How does it do it? SIGTERM and a new process, through the stack's own `restart`; the load is spread over a minute.
    """
    plan = Plan(600, 0, 17, replicas=REPLICAS, load_s=60)
    outcome = run_chaos(home(), tmp_path, free_port_base(), plan, print, steps=(), trouble=roll)
    print(words(outcome.found, outcome.course))
    assert broken(figures(outcome.found, outcome.course)) == []
    assert not outcome.found.errors
