"""Writes what was learned for the verifier as models/verifier/1/changes.npz, at eight bits.

python training/cache/export.py --adapter DIR/adapter --out models/verifier/1/changes.npz
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

INT8_MAX = 127.0


def quantised(matrix: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 numbers and their scales, one for each row (axis 1) or column (axis 0)."""
    scale = np.maximum(np.abs(matrix).max(axis=axis, keepdims=True), 1e-12) / INT8_MAX
    return np.round(matrix / scale).astype(np.int8), scale.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", type=Path, required=True, help="the folder that train.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = json.loads((arguments.adapter / "adapter_config.json").read_text())
    strength = np.sqrt(config["lora_alpha"] / config["r"])
    stored: dict[str, NDArray[np.int8] | NDArray[np.float32]] = {}
    for name, tensor in load_file(arguments.adapter / "adapter_model.safetensors").items():
        place = name.removeprefix("base_model.model.").removeprefix("model.").removeprefix("bert.")
        if ".lora_A." in place or ".lora_B." in place:
            down = ".lora_A." in place
            key = place.partition(".lora_")[0] + (".down" if down else ".up")
            stored[key], stored[f"{key} scale"] = quantised(tensor.astype(np.float32) * strength, axis=1 if down else 0)
        else:
            stored[place.replace("modules_to_save.default.", "")] = tensor.astype(np.float32)
    np.savez_compressed(arguments.out, **stored)
    print(f"{len(stored)} tensors, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
