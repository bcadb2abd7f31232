"""What a command ends with when it can't do its work; the message tells a person what to do.

Beside these, commands let through StackError (stack/errors.py) and SetupError (setup/errors.py).
"""

from __future__ import annotations


class CommandError(Exception):
    """exit_code: 2 for what the person asked wrongly, 1 for what went wrong."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
