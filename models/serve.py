"""Starts Triton on this machine: `python models/serve.py --grpc-port N --http-port N --metrics-port N --assets DIR`.

Run by the model environment's Python. It becomes the server (execve), so that signals and the process id are the
server's own. Everything binds 127.0.0.1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

HOST = "127.0.0.1"
"""Triton would bind every interface."""

EXIT_TIMEOUT_S = 10
"""Seconds that running requests get at SIGTERM. The server waits for all of it after a stub was killed."""

STUB_TIMEOUT_S = 120
"""Seconds that a model's process may take to come up; the default of 30 is little for torch on a busy machine."""


EXPORTED = "repository"
"""Folder among the model files: a repository of models that were trained here (training/router/export.py)."""


class ServerMissing(Exception):
    """This environment carries no Triton for this Python."""


@dataclass(frozen=True)
class Ports:
    grpc: int
    http: int
    metrics: int


def installation() -> tuple[Path, Path]:
    """(folder of the server, folder of its libraries) in this environment. Raises ServerMissing."""
    # find_spec does not run the package: its own dependencies are not installed.
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerMissing(f"{sys.executable} has no Triton: install requirements/models.txt into its environment")
    package = Path(spec.submodule_search_locations[0])
    return package / "tritonserver", package.parent / "nvidia_pytriton.libs"


def make_ready(server: Path) -> None:
    """Give the wheel's server its execute bit, and its Python backend the stub of this Python. Raises ServerMissing."""
    binary = server / "bin" / "tritonserver"
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not source.is_file():
        raise ServerMissing(f"this Triton has no stub for Python {version}")
    stub = server / "backends" / "python" / source.name
    if stub.is_file() and stub.stat().st_size == source.stat().st_size and os.access(stub, os.X_OK):
        return
    # Renamed into place: another server may be starting from the same environment.
    partial = stub.with_name(f"{stub.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.chmod(0o755)
    partial.replace(stub)


def models_in(repository: Path) -> list[str]:
    """The models of the repository. Triton's own "*" would also try to load every other folder beside them."""
    return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))


def command(server: Path, repositories: Sequence[Path], ports: Ports, models: Sequence[str]) -> list[str]:
    """The server's command line. models: the names to load."""
    return [
        str(server / "bin" / "tritonserver"),
        *(f"--model-repository={repository}" for repository in repositories),
        f"--backend-directory={server / 'backends'}",
        # Explicit control lets a model that died be unloaded and loaded again while the others serve.
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        f"--grpc-address={HOST}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={HOST}",
        f"--http-port={ports.http}",
        f"--metrics-address={HOST}",
        f"--metrics-port={ports.metrics}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--backend-config=python,stub-timeout-seconds={STUB_TIMEOUT_S}",
        # There is no GPU to look for in what the wheel carries.
        "--allow-gpu-metrics=false",
    ]


def environment(libraries: Path, assets: Path) -> dict[str, str]:
    """The process's environment, with what the server and its stubs look for added."""
    paths = [str(libraries), str(sysconfig.get_config_var("LIBDIR"))]
    if inherited := os.environ.get("LD_LIBRARY_PATH"):
        paths.append(inherited)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        # The stub finds its packages through the first python3 on PATH, and ignores PYTHONPATH.
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
        "MILLPOND_MODELS_DIR": str(assets),
    }


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description="Start Triton with Millpond's models on 127.0.0.1.")
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--assets", type=Path, required=True, help="the folder that prepare.py filled")
    parser.add_argument("--repository", type=Path, default=Path(__file__).resolve().parent, help="model repository")
    parser.add_argument("--model", action="append", default=[], help="load only this model; may be repeated")
    arguments = parser.parse_args()
    try:
        server, libraries = installation()
        make_ready(server)
    except ServerMissing as failure:
        sys.exit(f"serve: {failure}")
    if not arguments.assets.is_dir():
        sys.exit(f"serve: no folder {arguments.assets}: run models/prepare.py --target {arguments.assets}")
    ports = Ports(arguments.grpc_port, arguments.http_port, arguments.metrics_port)
    repositories = [arguments.repository.resolve()]
    if (exported := arguments.assets.resolve() / EXPORTED).is_dir():
        repositories.append(exported)
    every = [name for repository in repositories for name in models_in(repository)]
    argv = command(server, repositories, ports, arguments.model or every)
    os.execve(argv[0], argv, environment(libraries, arguments.assets.resolve()))


if __name__ == "__main__":
    main()
