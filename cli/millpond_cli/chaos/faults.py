"""Does the harm of a schedule to a stack that runs."""

from __future__ import annotations

import heapq
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from millpond_cli.chaos.schedule import Fault, Step
from millpond_cli.stack import ComponentState, Stack

PRESENT_S = 180.0
"""Seconds that a victim which is not there, or a Kafka that is not ready, is waited for: it is being started again."""

LOOK_S = 0.1


class Faults:
    """struck: called just before each fault, and when a frozen instance wakes, with the step."""

    def __init__(
        self, stack: Stack, steps: Sequence[Step], struck: Callable[[Step], None], report: Callable[[str], None]
    ) -> None:
        self._stack = stack
        self._steps = steps
        self._struck = struck
        self._report = report
        self._restarts: list[threading.Thread] = []
        self._at = (0, time.monotonic(), 0.0)
        """The step that is next, since when, and how long until it is due."""
        self.kills: Counter[str] = Counter()
        """Victim → how often."""

    @property
    def progress(self) -> float:
        """From 0 to 1: how much of the schedule is over."""
        number, since, gap_s = self._at
        within = min((time.monotonic() - since) / gap_s, 1) if gap_s else 0
        return (number + within) / len(self._steps) if number < len(self._steps) else 1.0

    def run(self) -> None:
        """Returns when all is done and undone."""
        began = time.monotonic()
        wakings: list[tuple[float, int, Step]] = []
        try:
            for number, step in enumerate(self._steps):
                now = time.monotonic()
                self._at = (number, now, step.after_s)
                self._wake(wakings, now + step.after_s)
                _sleep_until(now + step.after_s)
                self._await(step.instance, lambda state: state.identity is not None)
                self._report(f"{time.monotonic() - began:6.1f} s  fault {number + 1}, {step.victim}: {step.instance}")
                self._struck(step)
                self.kills[step.victim] += 1
                self._strike(step)
                if step.instance == "kafka":
                    # Without it nobody has anything in hand: the next fault would find nothing to harm.
                    for restart in self._restarts:
                        restart.join()
                    self._await("kafka", lambda state: state.state == "ready")
                if step.fault is Fault.FREEZE:
                    heapq.heappush(wakings, (time.monotonic() + step.for_s, number, step))
            self._wake(wakings, float("inf"))
            self._at = (len(self._steps), 0.0, 0.0)
        finally:
            for _, _, step in wakings:
                self._stack.send_signal(step.instance, signal.SIGCONT)
            for restart in self._restarts:
                restart.join()

    def _strike(self, step: Step) -> None:
        match step.fault:
            case Fault.KILL:
                self._stack.kill(step.instance)
            case Fault.FREEZE:
                self._stack.send_signal(step.instance, signal.SIGSTOP)
            case Fault.RESTART:
                # It takes as long as it takes, and meanwhile the next fault may come.
                restart = threading.Thread(target=self._stack.restart, args=(step.instance,), name="restart")
                restart.start()
                self._restarts.append(restart)

    def _wake(self, wakings: list[tuple[float, int, Step]], until: float) -> None:
        """Wake those that are due before that time, each at its own."""
        while wakings and wakings[0][0] <= until:
            due, _, step = wakings[0]
            _sleep_until(due)
            self._struck(step)
            self._stack.send_signal(step.instance, signal.SIGCONT)
            heapq.heappop(wakings)

    def _await(self, instance: str, condition: Callable[[ComponentState], bool]) -> None:
        """A victim that is dead just now is struck as soon as it starts."""
        until = time.monotonic() + PRESENT_S
        while not condition(self._stack.status()[instance]):
            if time.monotonic() > until:
                raise TimeoutError(f"{instance} did not start again within {PRESENT_S:g} s")
            time.sleep(LOOK_S)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))
