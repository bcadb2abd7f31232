"""The programs that must be on the machine, and what to install where one is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from millpond_cli.setup.errors import Missing

JAVA = 17
"""The oldest that Kafka 4 runs on."""

GO = (1, 21)
"""The oldest that fetches the version a go.mod asks for by itself."""


def check(programs: Iterable[str]) -> None:
    """Raises Missing with one line for all that are missing. programs: java and mvn; go is nobody's duty."""
    missing = [line for line in (_missing(program) for program in programs) if line]
    if missing:
        raise Missing(f"missing: {'; '.join(missing)}")


def _missing(program: str) -> str | None:
    if program == "java":
        version = java_version()
        if version is None or version < JAVA:
            found = f", this one is {version}" if version else ""
            return f"Java {JAVA} or newer{found} (Debian and Ubuntu: apt-get install openjdk-17-jre-headless)"
        return None
    if program == "mvn" and shutil.which("mvn") is None:
        return "Maven, to fetch Kafka (Debian and Ubuntu: apt-get install maven)"
    return None


def java_version() -> int | None:
    return parse_java_version(_output("java", "-version"))


def parse_java_version(output: str) -> int | None:
    """17 out of `openjdk version "17.0.15" ...`; 8 out of `java version "1.8.0_392"`."""
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(found[1]) if found else None


def go_is_there() -> bool:
    version = parse_go_version(_output("go", "version"))
    return version is not None and version >= GO


def parse_go_version(output: str) -> tuple[int, int] | None:
    """(1, 26) out of `go version go1.26.8 linux/amd64`."""
    found = re.search(r"\bgo(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else None


def _output(*command: str) -> str:
    """What it prints to either output; nothing where it can't be run."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return finished.stdout + finished.stderr
