"""Runs a command that dies with the process that started it: `python leash.py PARENT COMMAND...` (Linux).

A file run by its path and importing little, since it stands before every component. The kernel keeps the setting over
execve, so the command itself is what dies; what the command starts is found by the next start (stack/leftovers.py).
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when the thread that started it ends."""


def leashed() -> list[str]:
    """What to put before a command. The leash is held by the thread that starts it: that one must live as long."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid())]


def die_with_parent() -> None:
    """From here on, and over execve, this process is killed when the thread that started it ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    die_with_parent()
    if os.getppid() != parent:
        sys.exit("the stack ended before this started")
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as failure:
        sys.exit(f"{command[0]}: {failure.strerror}")


if __name__ == "__main__":
    main()
