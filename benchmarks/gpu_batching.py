"""How many tokens per second one GPU writes: one row at a time, in static windows, and continuously.

Runs alone: Python, torch, one GPU; no network, no weights, nothing of Millpond. The model has a real one's shape and
random weights, since speed does not depend on their values.

    python benchmarks/gpu_batching.py --json figures.json
    python benchmarks/gpu_batching.py --shape tiny --device cpu --rows 4 --requests 8 --lengths 4 8   # a dry run

A static window runs until its longest row ends; in the continuous batch a row that ends is replaced at the next step.
Everything runs eagerly, without CUDA graphs or fused kernels beyond torch's own attention: ratios are what counts here,
and a serving engine's own figures are higher, most of all one row at a time.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PROMPT_TOKENS = 128

POWER_EVERY_S = 0.1


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind: grouped-query attention, rotary positions, gated MLP."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads


SHAPES = {
    "tiny": Shape(2, 64, 4, 2, 128, 256),
    # Of SmolLM2-135M, which Millpond ships, and of Llama 3.2 1B and Llama 3.1 8B.
    "135m": Shape(30, 576, 9, 3, 1536, 49152),
    "1b": Shape(16, 2048, 32, 8, 8192, 128256),
    "8b": Shape(32, 4096, 32, 8, 14336, 128256),
}


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        keys = shape.kv_heads * shape.head_width
        self.before, self.between = nn.RMSNorm(shape.width), nn.RMSNorm(shape.width)
        self.qkv = nn.Linear(shape.width, shape.width + 2 * keys, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.up = nn.Linear(shape.width, 2 * shape.mlp, bias=False)
        self.down = nn.Linear(shape.mlp, shape.width, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], cache: Cache, layer: int, step: Step) -> Tensor:
        """x: [rows, tokens, width]."""
        shape = self._shape
        rows, tokens, _ = x.shape
        keys = shape.kv_heads * shape.head_width
        query, key, value = self.qkv(self.before(x)).split((shape.width, keys, keys), dim=-1)
        query = _rotated(query.view(rows, tokens, shape.heads, -1), rotary).transpose(1, 2)
        key = _rotated(key.view(rows, tokens, shape.kv_heads, -1), rotary)
        key, value = cache.write(layer, step, key, value.view(rows, tokens, shape.kv_heads, -1))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=step.mask, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        gate, up = self.up(self.between(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


@dataclass(frozen=True)
class Step:
    """slots: [rows], of the cache. positions: [rows, tokens]. longest: of the cache that is looked at.

    mask: [rows, 1, tokens, longest], true where a token may look.
    """

    slots: Tensor
    positions: Tensor
    longest: int
    mask: Tensor


class Cache:
    """Keys and values of all slots, each [layers, slots, longest, kv_heads, head_width]."""

    def __init__(self, shape: Shape, slots: int, longest: int, device: torch.device, kind: torch.dtype) -> None:
        size = (shape.layers, slots, longest, shape.kv_heads, shape.head_width)
        self._keys = torch.zeros(size, device=device, dtype=kind)
        self._values = torch.zeros_like(self._keys)

    def write(self, layer: int, step: Step, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take these in; all that the rows may look at: [rows, kv_heads, longest, head_width] of each."""
        at = (step.slots[:, None], step.positions)
        self._keys[layer].index_put_(at, key)
        self._values[layer].index_put_(at, value)
        found = (each[layer, step.slots, : step.longest] for each in (self._keys, self._values))
        keys, values = (each.transpose(1, 2) for each in found)
        return keys, values


class Decoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(self, tokens: Tensor, cache: Cache, slots: Tensor, positions: Tensor, longest: int) -> Tensor:
        """The next token of each row, greedily. tokens, positions: [rows, tokens]."""
        looks = torch.arange(longest, device=tokens.device)
        step = Step(slots, positions, longest, (looks <= positions[..., None])[:, None])
        rotary = _rotary(positions, self.shape.head_width, self.embedding.weight.dtype)
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            x = layer(x, rotary, cache, number, step)
        return self.head(self.norm(x[:, -1])).argmax(-1)


def _rotary(positions: Tensor, width: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=positions.device).float() / width)
    angles = positions[..., None, None].float() * rates
    return angles.cos().to(kind), angles.sin().to(kind)


def _rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """x: [rows, tokens, heads, head_width]."""
    cos, sin = rotary
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)


class Engine:
    """Rows in slots of one cache."""

    def __init__(self, model: Decoder, slots: int, longest: int) -> None:
        weights = model.embedding.weight
        self._model, self._device, self._longest = model, weights.device, longest
        self._cache = Cache(model.shape, slots, longest, weights.device, weights.dtype)
        self._positions = torch.zeros(slots, dtype=torch.long, device=weights.device)
        self._tokens = torch.zeros(slots, dtype=torch.long, device=weights.device)

    def begin(self, slots: Sequence[int]) -> None:
        """Read a prompt into each of these slots, which writes their first token."""
        rows = torch.tensor(slots, device=self._device)
        vocabulary = self._model.shape.vocabulary
        prompt = torch.randint(vocabulary, (len(slots), PROMPT_TOKENS), device=self._device)
        positions = torch.arange(PROMPT_TOKENS, device=self._device).expand(len(slots), -1)
        self._tokens[rows] = self._model(prompt, self._cache, rows, positions, PROMPT_TOKENS)
        self._positions[rows] = PROMPT_TOKENS

    def step(self, slots: Sequence[int], longest: int) -> None:
        """Write one more token in each of these slots. longest: tokens that any of them has, this one included."""
        rows = torch.tensor(slots, device=self._device)
        # Rounded up, so that shapes repeat.
        looked_at = min(-(-longest // 128) * 128, self._longest)
        positions = self._positions[rows]
        self._tokens[rows] = self._model(self._tokens[rows, None], self._cache, rows, positions[:, None], looked_at)
        self._positions[rows] = positions + 1

    def wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def in_windows(engine: Engine, lengths: Sequence[int], rows: int) -> int:
    """Static windows: each runs until its longest row ends. The tokens that were wanted."""
    for first in range(0, len(lengths), rows):
        window = lengths[first : first + rows]
        slots = range(len(window))
        engine.begin(slots)
        for written in range(1, max(window)):
            engine.step(slots, PROMPT_TOKENS + written + 1)
    engine.wait()
    return sum(lengths)


def continuously(engine: Engine, lengths: Sequence[int], rows: int) -> int:
    """A row that ends is replaced at the next step. The tokens that were wanted."""
    waiting = list(reversed(lengths))
    left: dict[int, int] = {}
    written: dict[int, int] = {}
    while waiting or left:
        fresh = [slot for slot in range(rows) if slot not in left][: len(waiting)]
        if fresh:
            engine.begin(fresh)
            for slot in fresh:
                left[slot], written[slot] = waiting.pop() - 1, 1
        running = [slot for slot, tokens in left.items() if tokens > 0]
        if running:
            engine.step(running, PROMPT_TOKENS + max(written[slot] for slot in running) + 1)
            for slot in running:
                left[slot] -= 1
                written[slot] += 1
        for slot in [slot for slot, tokens in left.items() if tokens <= 0]:
            del left[slot]
    engine.wait()
    return sum(lengths)


@contextmanager
def energy(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Joules since the block was entered, or None where the power cannot be read."""
    watts: list[float] = []
    over = threading.Event()
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", f"--id={device.index or 0}"]

    def look() -> None:
        while not over.wait(POWER_EVERY_S):
            try:
                watts.append(float(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)))
            except (OSError, ValueError, subprocess.CalledProcessError):
                return

    began = time.monotonic()
    thread = threading.Thread(target=look, daemon=True)
    if device.type == "cuda":
        thread.start()
    try:
        yield lambda: sum(watts) / len(watts) * (time.monotonic() - began) if watts else None
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def measure(device: torch.device, work: Callable[[], int]) -> dict[str, Any]:
    with energy(device) as joules:
        began = time.monotonic()
        tokens = work()
        seconds = time.monotonic() - began
        used = joules()
    return {
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_s": round(tokens / seconds, 1),
        "joules_per_token": round(used / tokens, 4) if used is not None else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32, 64, 128], help="sizes of windows and batch")
    parser.add_argument("--requests", type=int, default=256, help="in each measurement but one row at a time")
    parser.add_argument("--alone", type=int, default=2, help="requests that are measured one row at a time")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="tokens of answers")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        parser.error(f"--json {arguments.json}: there is no such folder")
    if min(*arguments.rows, *arguments.lengths, arguments.requests, arguments.alone, 2) < 1:
        parser.error("rows, lengths and requests are 1 or more")
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.inference_mode(), device:
        model = Decoder(SHAPES[arguments.shape]).to(kind).eval()
        figures = contest(model, device, arguments)
    for figure in figures["runs"]:
        print(f"{figure['name']:32} {figure['tokens_per_s']:10,.1f} tokens/s  {figure['times_alone']:6.2f} x")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def contest(model: Decoder, device: torch.device, arguments: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(0)  # noqa: S311
    mixed = [chance.choice(arguments.lengths) for _ in range(arguments.requests)]
    engine = Engine(model, max(arguments.rows), PROMPT_TOKENS + max(arguments.lengths))
    # The first calls choose kernels.
    in_windows(engine, [4] * max(arguments.rows), max(arguments.rows))
    in_windows(engine, [4], 1)
    runs: list[dict[str, Any]] = []

    def add(name: str, rows: int, work: Callable[[], int]) -> None:
        figure = measure(device, work)
        alone = runs[0]["tokens_per_s"] if runs else figure["tokens_per_s"]
        runs.append({"name": name, "rows": rows, **figure, "times_alone": round(figure["tokens_per_s"] / alone, 2)})

    some = (sorted(arguments.lengths) * arguments.alone)[: max(arguments.alone, len(arguments.lengths))]
    add("one at a time", 1, lambda: in_windows(engine, some, 1))
    for rows in arguments.rows:
        add(f"static windows of {rows}", rows, lambda rows=rows: in_windows(engine, mixed, rows))
        add(f"continuous, {rows} rows", rows, lambda rows=rows: continuously(engine, mixed, rows))
    for length in arguments.lengths:
        rows = max(arguments.rows)
        lengths = [length] * rows
        add(f"{rows} rows of {length} tokens", rows, lambda lengths=lengths: in_windows(engine, lengths, len(lengths)))
    best = max(figure["times_alone"] for figure in runs)
    return {
        "shape": {"name": arguments.shape, **asdict(model.shape)},
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": arguments.lengths,
        "runs": runs,
        "targets": [
            {"name": "the best, beside one at a time", "value": best, "unit": "times", "bound": 20, "better": "higher"}
        ],
        "environment": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "system": platform.platform(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


if __name__ == "__main__":
    main()
