"""Triton's own dynamic batching with priorities, on the generator's engine: the peer of the batcher."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc.aio as triton

from millpond.v1 import request_pb2
from millpond_batcher.chat_prompt import ChatPrompt
from millpond_cli.errors import CommandError
from millpond_cli.setup.home import Home
from millpond_cli.stack import free_port_base
from millpond_core.settings import ModelSettings

REPOSITORY = Path(__file__).resolve().parents[4]

START_S = 180.0
"""Seconds that loading the model may take: its file is read in some 10."""

STOP_S = 30.0


@dataclass(frozen=True)
class Call:
    """priority: 1 goes first."""

    at_s: float
    text: str
    tokens: int
    priority: int


@dataclass(frozen=True)
class Served:
    """address: gRPC's. process: the server's id."""

    address: str
    process: int


@dataclass(frozen=True)
class Answered:
    prompt_tokens: int
    seconds: float


@contextmanager
def serving(place: Home, log: Path) -> Generator[Served]:
    """Raises CommandError where it does not come up."""
    http = free_port_base()
    grpc, metrics = http + 1, http + 2
    command = [
        *(str(place.models_python), str(REPOSITORY / "models" / "serve.py"), "--assets", str(place.assets)),
        *("--repository", str(REPOSITORY / "benchmarks" / "dynamic_batching")),
        *("--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)),
    ]
    environment = {**os.environ, "MILLPOND_GENERATOR_CODE": str(REPOSITORY / "models" / "generator" / "1")}
    with log.open("w") as lines:
        server = subprocess.Popen(command, env=environment, stdout=lines, stderr=lines)
        try:
            _await(server, f"http://127.0.0.1:{http}/v2/health/ready", log)
            yield Served(f"127.0.0.1:{grpc}", server.pid)
        finally:
            server.terminate()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def play(address: str, model: ModelSettings, calls: Sequence[Call]) -> list[Answered | None]:
    """Make each call at its time; None for one that failed."""
    return asyncio.run(_play(address, model, calls))


async def _play(address: str, model: ModelSettings, calls: Sequence[Call]) -> list[Answered | None]:
    client = triton.InferenceServerClient(address)
    prompt = ChatPrompt(model.chat_template)
    begun = time.monotonic()

    async def make(call: Call) -> Answered | None:
        await asyncio.sleep(max(call.at_s - (time.monotonic() - begun), 0))
        began = time.monotonic()
        message = request_pb2.Request(messages=[request_pb2.Message(role="user", content=call.text)])
        params = json.dumps({"temperature": 0, "max_tokens": call.tokens, "min_tokens": call.tokens})
        inputs = [_input("text_input", prompt.render(message)), _input("sampling_parameters", params)]
        try:
            result: Any = await client.infer(model.triton_model, inputs, priority=call.priority)
        except triton.InferenceServerException:
            return None
        tokens = int(result.as_numpy("num_input_tokens").reshape(-1)[0])
        return Answered(tokens, time.monotonic() - began)

    try:
        return await asyncio.gather(*map(make, calls))
    finally:
        await client.close()


def _input(name: str, text: str) -> triton.InferInput:
    tensor = triton.InferInput(name, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
    return tensor


def _await(server: subprocess.Popen[bytes], page: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        try:
            with urlopen(page, timeout=1):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise CommandError(f"Triton with its own dynamic batching did not start:\n{log.read_text()[-2000:]}", 1)
