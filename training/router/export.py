"""Makes a Triton model of a fine-tuned encoder: text to a vector, as the embedder has it, by the embedder's own code.

    .millpond/models-env/bin/python training/router/export.py --encoder RUN --models .millpond/models

It leaves, among the model files, NAME/ (the weights and the int8 graph) and repository/NAME/ (what Triton loads, and
models/serve.py serves beside the other models). The version is the name and the first eight digits of the weights'
sha256, so heads that were fitted to other weights refuse its vectors.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "models"), str(REPOSITORY / "models" / "embedder" / "1")]

import minilm_graph
import prepare
import serve
from embedder_engine import weights_digest

EMBEDDER = REPOSITORY / "models" / "embedder"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="The folder that fine_tune.py wrote.")
    parser.add_argument("--name", default="router_encoder", help="Of the Triton model, letters, digits and _.")
    parser.add_argument("--models", type=Path, required=True, help="The folder that models/prepare.py filled.")
    given = parser.parse_args()
    if not re.fullmatch(r"[a-z0-9_]+", given.name) or (REPOSITORY / "models" / given.name).exists():
        parser.error(f"--name {given.name}: must be of a-z, 0-9 and _, and of no other model")
    print(export(given.encoder, given.name, given.models))


def export(encoder: Path, name: str, models: Path) -> str:
    """The version of the model that is written."""
    folder, served = models / name, models / serve.EXPORTED / name
    shutil.copytree(encoder, folder, dirs_exist_ok=True)
    # Triton in a container is another user.
    (folder / "model.safetensors").chmod(0o644)
    version = f"{name}-{weights_digest(folder)}"
    recipe = prepare.sha256_of(prepare.GRAPH)[:8]
    prepare.build_graph(folder, f"{version} {recipe}", version, lambda: minilm_graph.build(folder))
    shutil.copytree(EMBEDDER / "1", served / "1", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (served / "config.pbtxt").write_text(configuration((EMBEDDER / "config.pbtxt").read_text(), name, version))
    return version


def configuration(embedders: str, name: str, version: str) -> str:
    """The embedder's, with another name and version, and the folder that the weights are in."""
    named = re.sub(r'^name: ".*"', f'name: "{name}"', embedders, count=1, flags=re.MULTILINE)
    versioned = re.sub(r'(key: "version" value: \{ string_value: )"[^"]*"', rf'\1"{version}"', named, count=1)
    return versioned + f'parameters [ {{ key: "folder" value: {{ string_value: "{name}" }} }} ]\n'


if __name__ == "__main__":
    main()
