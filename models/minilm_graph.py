"""Builds the int8 engine files of the embedder and of the verifier from one BERT checkpoint, without torch.

The graph is BERT as all-MiniLM-L6-v2 uses it (encoder, masked mean over the tokens, L2 norm), written directly in
OpenVINO operations over the numbers of `model.safetensors`. Matrices become int8 with a scale per output row and
group of inputs; the CPU plugin quantises activations on the fly, per token and group of values, so that a row's
embedding hardly depends on its neighbours in the batch (with one scale per tensor, as ONNX Runtime's dynamic
quantisation has, it would). Two matrices stay float16: the joint query, key and value one, a quarter of the
arithmetic and half of the error, and the words' table, which is only looked up. Measured on 500 docstrings and lines
of them, lowest cosine to the float32 model: 0.9987 with all of it int8 and one scale per row, 0.9993 as it is here
(mean 0.9998).

The verifier is the same encoder with low-rank changes (models/verifier/README.md), reading two texts at once, with
BERT's pooler and one number in place of the mean.

Source: Devlin et al. 2019 for the encoder and its pooler; Reimers and Gurevych 2019 for mean pooling; Hu et al. 2021
for low-rank changes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

Weights = dict[str, NDArray[np.float32]]

SAFETENSORS_HEADER_LIMIT = 100_000_000
"""Bytes; the format's own limit on its JSON header. A longer one means that the file is something else."""

GROUP = 32
"""Inputs that share a scale: as many as share one among the activations, so that the plugin multiplies whole groups."""

INT8_MAX = 127.0
"""Symmetric: -128 is left out so that every scale is max(|group|) / 127."""


class UnfitCheckpoint(ValueError):
    """The folder holds no BERT encoder that this graph can express."""


def read_safetensors(path: Path) -> Weights:
    """Read every float32 tensor of a safetensors file: name → array of the stored shape.

    Raises UnfitCheckpoint when the file is no safetensors file. Other dtypes (position ids) are left out.
    Source: the safetensors format, an 8-byte length, a JSON header, then the raw little-endian data.
    """
    raw = path.read_bytes()
    if len(raw) < 8 or (size := struct.unpack("<Q", raw[:8])[0]) > min(SAFETENSORS_HEADER_LIMIT, len(raw) - 8):
        raise UnfitCheckpoint(f"{path} is not a safetensors file")
    header = json.loads(raw[8 : 8 + size])
    weights: Weights = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, last = entry["data_offsets"]
        flat = np.frombuffer(raw, dtype="<f4", count=(last - first) // 4, offset=8 + size + first)
        weights[name] = flat.reshape(entry["shape"])
    return weights


def build(folder: Path) -> ov.Model:
    """The int8 engine of a sentence-transformers folder whose encoder is BERT with mean pooling.

    folder: holds `config.json` and `model.safetensors`.
    Returns a model with inputs `ids` and `mask`, int32 [rows, tokens], and the output `embedding`,
    float32 [rows, hidden size], of L2 norm 1.
    Raises UnfitCheckpoint for another architecture or activation, or when a tensor is missing.
    """
    weights, config = _checkpoint(folder)
    with _naming_what_is_missing(folder):
        ids, mask = _input("ids"), _input("mask")
        present = op.convert(mask, np.float32)
        # Every text is a first segment, so its segment vector is one with the position's.
        first = op.constant(weights["embeddings.token_type_embeddings.weight"][0])
        state = _encoded(ids, present, first, weights, config)
        weight = op.unsqueeze(present, op.constant([2], dtype=np.int32))
        axis = op.constant([1], dtype=np.int32)
        pooled = op.divide(op.reduce_sum(op.multiply(state, weight), axis), op.reduce_sum(weight, axis))
        embedding = op.normalize_l2(pooled, op.constant([1], dtype=np.int32), 1e-12, "max")
        embedding.output(0).set_names({"embedding"})
        return ov.Model([embedding], [ids, mask], "embedder")


def build_verifier(folder: Path, changes: Path) -> ov.Model:
    """The int8 engine of the verifier.

    folder: as for `build`. changes: the file that training/cache/export.py wrote (`read_changes`).
    Returns a model with inputs `ids`, `mask` and `segments`, int32 [rows, tokens], and the output `logit`,
    float32 [rows]: over 0 where the two texts are the same question. Raises UnfitCheckpoint as `build` does.
    """
    weights, config = _checkpoint(folder)
    with _naming_what_is_missing(folder):
        weights = changed(weights, read_changes(changes))
        ids, mask, segments = _input("ids"), _input("mask"), _input("segments")
        present = op.convert(mask, np.float32)
        table = op.constant(weights["embeddings.token_type_embeddings.weight"])
        segment = op.gather(table, segments, op.constant(0, dtype=np.int32))
        state = _encoded(ids, present, segment, weights, config)
        opening = op.gather(state, op.constant(0, dtype=np.int32), op.constant(1, dtype=np.int32))
        pooled = op.tanh(_flat_linear(opening, weights, "pooler.dense"))
        logit = op.squeeze(_flat_linear(pooled, weights, "classifier"), op.constant([1], dtype=np.int32))
        logit.output(0).set_names({"logit"})
        return ov.Model([logit], [ids, mask, segments], "verifier")


def read_changes(path: Path) -> Weights:
    """The verifier's own numbers: `NAME.down` [rank, inputs] and `NAME.up` [outputs, rank] for each matrix that is
    changed, and whole tensors under their own names.

    In the file both are int8 with a float32 scale per row (of `down`) or column (of `up`), named `… scale`.
    """
    with np.load(path) as stored:
        tensors = {name: stored[name] for name in stored.files}
    return {
        name: tensor * tensors[f"{name} scale"] if tensor.dtype == np.int8 else tensor.astype(np.float32)
        for name, tensor in tensors.items()
        if not name.endswith(" scale")
    }


def changed(weights: Weights, changes: Weights) -> Weights:
    """The checkpoint's tensors with `up @ down` added to each matrix that has both. Raises KeyError."""
    new = dict(weights)
    for name, tensor in changes.items():
        if name.endswith(".down"):
            matrix = f"{name.removesuffix('.down')}.weight"
            new[matrix] = weights[matrix] + changes[f"{name.removesuffix('.down')}.up"] @ tensor
        elif not name.endswith(".up"):
            new[name] = tensor
    return new


def _checkpoint(folder: Path) -> tuple[Weights, dict[str, Any]]:
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise UnfitCheckpoint(f"{folder} is not a BERT encoder with gelu; serve it with engine sentence-transformers")
    return read_safetensors(folder / "model.safetensors"), config


@contextmanager
def _naming_what_is_missing(folder: Path) -> Generator[None]:
    try:
        yield
    except KeyError as missing:
        raise UnfitCheckpoint(f"{folder}/model.safetensors has no tensor {missing}") from missing


def _input(name: str) -> ov.Node:
    node = op.parameter([-1, -1], np.int32, name=name)
    node.output(0).set_names({name})
    return node


def _encoded(ids: ov.Node, present: ov.Node, segment: ov.Node, weights: Weights, config: dict[str, Any]) -> ov.Node:
    """The encoder's last state, [rows, tokens, hidden]. present: 1 where there is a token, else 0."""
    hidden = int(config["hidden_size"])
    epsilon = float(config["layer_norm_eps"])
    length = op.gather(op.shape_of(ids, "i32"), op.constant([1], dtype=np.int32), op.constant(0, dtype=np.int32))
    position = op.slice(
        op.constant(weights["embeddings.position_embeddings.weight"]),
        op.constant([0], dtype=np.int32),
        length,
        op.constant([1], dtype=np.int32),
        op.constant([0], dtype=np.int32),
    )
    words = op.gather(_float16(weights["embeddings.word_embeddings.weight"]), ids, op.constant(0, dtype=np.int32))
    embedded = op.add(op.add(words, position), segment)
    state = _layer_norm(embedded, weights, "embeddings.LayerNorm", epsilon)

    # 0 where there is a token, -10,000 where there is padding: enough to make its share of the softmax 0.
    shut = op.multiply(op.subtract(present, op.constant(np.float32(1))), op.constant(np.float32(10_000)))
    attention_mask = op.unsqueeze(shut, op.constant([1, 2], dtype=np.int32))

    heads = int(config["num_attention_heads"])
    for layer in range(int(config["num_hidden_layers"])):
        state = _layer(state, attention_mask, weights, f"encoder.layer.{layer}", hidden, heads, epsilon)
    return state


def _layer(
    state: ov.Node, attention_mask: ov.Node, weights: Weights, name: str, hidden: int, heads: int, epsilon: float
) -> ov.Node:
    """One encoder layer: [rows, tokens, hidden] in and out."""
    # One product for query, key and value: a third of the calls, and activations are quantised once.
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    matrix = np.concatenate([weights[f"{part}.weight"] for part in parts])
    bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
    joint = op.variadic_split(
        _linear(state, _float16(matrix), bias),
        op.constant(2, dtype=np.int32),
        op.constant([hidden] * 3, dtype=np.int32),
    )
    to_heads = op.constant([0, 0, heads, hidden // heads], dtype=np.int32)
    swap = op.constant([0, 2, 1, 3], dtype=np.int32)
    query, key, value = (op.transpose(op.reshape(joint.output(i), to_heads, True), swap) for i in range(3))
    attended = op.scaled_dot_product_attention(query, key, value, attention_mask)
    merged = op.reshape(op.transpose(attended, swap), op.constant([0, 0, hidden], dtype=np.int32), True)

    def linear(node: ov.Node, part: str) -> ov.Node:
        return _linear(node, _int8(weights[f"{name}.{part}.weight"]), weights[f"{name}.{part}.bias"])

    mixed = op.add(state, linear(merged, "attention.output.dense"))
    state = _layer_norm(mixed, weights, f"{name}.attention.output.LayerNorm", epsilon)
    inner = op.gelu(linear(state, "intermediate.dense"), "erf")
    return _layer_norm(op.add(state, linear(inner, "output.dense")), weights, f"{name}.output.LayerNorm", epsilon)


def _int8(matrix: NDArray[np.float32]) -> ov.Node:
    """[rows, columns] as int8 with a float32 scale per row and group of columns; the plugin keeps it so in memory."""
    rows, columns = matrix.shape
    if columns % GROUP:
        raise UnfitCheckpoint(f"a matrix has {columns} columns, no multiple of {GROUP}")
    grouped = matrix.reshape(rows, columns // GROUP, GROUP)
    # A group of zeros gets a scale of almost nothing instead of a division by zero.
    scale = (np.maximum(np.abs(grouped).max(axis=2, keepdims=True), 1e-12) / INT8_MAX).astype(np.float32)
    small = np.round(grouped / scale).astype(np.int8)
    wide = op.multiply(op.convert(op.constant(small), np.float32), op.constant(scale))
    return op.reshape(wide, op.constant([rows, columns], dtype=np.int32), False)


def _float16(matrix: NDArray[np.float32]) -> ov.Node:
    return op.convert(op.constant(matrix.astype(np.float16)), np.float32)


def _linear(node: ov.Node, matrix: ov.Node, bias: NDArray[np.float32]) -> ov.Node:
    return op.add(op.matmul(node, matrix, False, True), op.constant(bias.reshape(1, 1, -1)))


def _flat_linear(node: ov.Node, weights: Weights, name: str) -> ov.Node:
    """[rows, inputs] in, [rows, outputs] out."""
    product = op.matmul(node, op.constant(weights[f"{name}.weight"]), False, True)
    return op.add(product, op.constant(weights[f"{name}.bias"].reshape(1, -1)))


def _layer_norm(node: ov.Node, weights: Weights, name: str, epsilon: float) -> ov.Node:
    normal = op.mvn(node, op.constant([2], dtype=np.int32), True, epsilon, "inside_sqrt")
    shape = (1, 1, -1)
    scaled = op.multiply(normal, op.constant(weights[f"{name}.weight"].reshape(shape)))
    return op.add(scaled, op.constant(weights[f"{name}.bias"].reshape(shape)))
