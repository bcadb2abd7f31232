"""Generates proto/python from the .proto files: `python proto/generate.py [--target DIR]`.

The generated code is committed, so that neither images nor users need a compiler; a test compares it with its source.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCE = Path(__file__).resolve().parent


def generate(target: Path) -> None:
    """Write millpond/v1/*_pb2.py, *_pb2.pyi and *_pb2_grpc.py under target. Raises SystemExit when protoc fails."""
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(SOURCE)) for path in (SOURCE / "millpond").rglob("*.proto"))
    includes = [f"-I{SOURCE}", f"-I{files('grpc_tools') / '_proto'}"]
    plain = [f"--python_out={target}", f"--pyi_out={target}"]
    if protoc.main(["protoc", *includes, *plain, *sources]) != 0:
        sys.exit("protoc failed")
    services = [source for source in sources if source.endswith("services.proto")]
    if protoc.main(["protoc", *includes, f"--grpc_python_out={target}", *services]) != 0:
        sys.exit("protoc failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Generate the Python code of the contract.")
    parser.add_argument("--target", type=Path, default=SOURCE / "python")
    generate(parser.parse_args().target)
