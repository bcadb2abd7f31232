"""What can go wrong while setting up; each message tells a person what to do.

SetupError          something failed that is not the person's to install: exit code 1
 └── Missing        a program is to be installed first: exit code 2
"""

from __future__ import annotations


class SetupError(Exception):
    exit_code = 1


class Missing(SetupError):
    exit_code = 2
