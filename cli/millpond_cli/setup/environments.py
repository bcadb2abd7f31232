"""Makes Python environments out of pinned requirements.

Imports nothing but the standard library and its like beside it: the `millpond` script uses it before there is anything
else.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millpond_cli.setup.commands import Commands
from millpond_cli.setup.errors import Missing, SetupError
from millpond_cli.setup.home import REPOSITORY, Home
from millpond_cli.setup.stamp import digest, is_current, write

RECIPE = "1"
"""Raised when this file makes environments differently: they are then made again."""

STAMP = "millpond.stamp"
UNFINISHED = "millpond.unfinished"
"""Stands in an environment while packages are written into it. One that has it is not trusted: it is made anew."""

CAREFULLY = ("--require-hashes", "--only-binary", ":all:")
"""Only what was pinned, and nothing compiled: on a machine that a package has no wheel for, say so at once."""

PACKAGE_FOLDERS = (
    *("core", "proto/python", "cli"),
    *("services/router", "services/cache", "services/batcher", "services/frontier"),
)
"""The workspace's packages are imported from the checkout: no installing, and a change holds at once."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """requirements: complete lists with hashes. imports: folders of the checkout that its Python imports from."""

    folder: Path
    requirements: Sequence[Path]
    imports: Sequence[Path] = ()
    has_uv: bool = False

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def made_from(self) -> str:
        return digest("\n".join([RECIPE, *map(str, self.imports)]), self.requirements)

    @property
    def is_ready(self) -> bool:
        return is_current(self.folder / STAMP, self.made_from) and self.python.exists()


UV_REQUIREMENTS = REPOSITORY / "requirements" / "uv.txt"


def workspace(home: Home) -> Environment:
    return Environment(
        home.env,
        (UV_REQUIREMENTS, REPOSITORY / "requirements" / "workspace.txt"),
        imports=tuple(REPOSITORY / folder for folder in PACKAGE_FOLDERS),
        has_uv=True,
    )


def models(home: Home) -> Environment:
    return Environment(home.models_env, (REPOSITORY / "requirements" / "models.txt",))


def torch(home: Home) -> Environment:
    """The models' environment with sentence-transformers: for the tests that compare the embedder's engines."""
    return Environment(
        home.torch_env, [REPOSITORY / "requirements" / name for name in ("models.txt", "models-torch.txt")]
    )


def gptcache(home: Home) -> Environment:
    """Another semantic cache, for the benchmark beside it."""
    return Environment(home.gptcache_env, (REPOSITORY / "requirements" / "gptcache.txt",))


def make(environment: Environment, uv: Path | None, commands: Commands, say: Say) -> None:
    """Make the environment hold exactly its requirements. uv: the program, where there is one already.

    A finished environment whose requirements changed is brought up to date in place. Raises SetupError.
    """
    folder = environment.folder
    unfinished = folder / UNFINISHED
    if folder.exists() and (unfinished.exists() or not _works(environment.python, commands)):
        say("what is there was interrupted, or is not whole: making it anew")
        shutil.rmtree(folder)
    if not folder.exists():
        _create(folder, commands)
    (folder / STAMP).unlink(missing_ok=True)
    unfinished.touch()
    if environment.has_uv:
        uv = _with_uv(environment, commands, say)
    _install(environment, uv, commands, say)
    if environment.imports:
        site_packages = next((folder / "lib").glob("python3.*/site-packages"))
        (site_packages / "millpond.pth").write_text("".join(f"{path}\n" for path in environment.imports))
    unfinished.unlink()
    write(folder / STAMP, environment.made_from)


def _create(folder: Path, commands: Commands) -> None:
    # Not beside it and renamed: an environment's scripts name its folder.
    finished = commands.run([sys.executable, "-m", "venv", str(folder)])
    if finished.code != 0:
        shutil.rmtree(folder, ignore_errors=True)
        if "ensurepip" in finished.output:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise Missing(f"this Python can't make environments: install python{version}-venv")
        raise SetupError(f"could not make {folder}:\n{finished.tail}")


def _with_uv(environment: Environment, commands: Commands, say: Say) -> Path | None:
    """uv inside the environment, or None where it can't be had: pip does the same, more slowly."""
    uv = environment.folder / "bin" / "uv"
    pip = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    finished = commands.run([*pip, *CAREFULLY, "--requirement", str(UV_REQUIREMENTS)])
    if finished.code == 0 and uv.exists():
        return uv
    say("uv could not be installed: using pip, which takes longer")
    return None


def _install(environment: Environment, uv: Path | None, commands: Commands, say: Say) -> None:
    python, lists = str(environment.python), [str(path) for path in environment.requirements]
    say(f"installing {sum(_count(path) for path in environment.requirements)} packages")
    if uv is not None:
        configured = commands.run([python, "-m", "pip", "config", "list"])
        settings = uv_settings(configured.output if configured.code == 0 else "", os.environ)
        if settings is None:
            say("pip has been told of another index: using pip, which takes longer than uv")
        else:
            finished = commands.run([str(uv), "pip", "sync", *CAREFULLY, "--python", python, *lists], settings)
            if finished.code == 0:
                return
            say(f"uv failed ({finished.last_line}): using pip, which takes longer")
    # The lists are complete, so that nothing is to be resolved; some leave out what a package asks for on purpose.
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", *CAREFULLY]
    finished = commands.run([*pip, *(part for path in lists for part in ("--requirement", path))])
    if finished.code != 0:
        raise SetupError(f"could not install into {environment.folder}:\n{finished.tail}")


UV_NAMES = {
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""pip's settings that say how to connect, and uv's variables for the same. uv reads none of pip's."""


def uv_settings(pip_config: str, environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment for uv to fetch as pip would; None where pip was told of an index of the person's own, and uv was
    not: how to reach it is pip's to know. pip_config: the output of `pip config list`.

    Its lines read `global.timeout='60'`, `install.cert='...'` or `:env:.cert='...'`; the environment's word goes before
    `install`'s, and that before `global`'s. What the person set for uv stays.
    """
    strength = ("global", "install", ":env:")
    found: dict[str, tuple[int, str]] = {}
    uv_was_told = any(name.startswith("UV_") and "INDEX" in name for name in environment)
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        if section not in strength:
            continue
        if "index" in name and not uv_was_told:
            return None
        if name not in UV_NAMES:
            continue
        rank = strength.index(section)
        if rank >= found.get(UV_NAMES[name], (-1, ""))[0]:
            found[UV_NAMES[name]] = (rank, " ".join(value.strip().strip("'\"").replace("\\n", " ").split()))
    own = {key: value for key, (_, value) in found.items() if value}
    return {**own, **environment}


def _count(requirements: Path) -> int:
    return sum(1 for line in requirements.read_text().splitlines() if line[:1].isalnum())


def _works(python: Path, commands: Commands) -> bool:
    return python.exists() and commands.run([str(python), "-c", "import pip"]).code == 0
