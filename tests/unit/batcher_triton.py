"""A server that speaks Triton's protocol and does with each row what its prompt says.

For what the real one does rarely; tests/integration/test_batcher.py has the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

messages: Any = service_pb2
"""Its classes are made at run time."""

DIED = "Stub process 'generator_0_0' is not healthy."


@dataclass
class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The last line of a row's prompt is a word of `ANSWERS`, "hang", "nothing" or an error's text.

    "crowd" and "poison" wait until as many rows run as `crowd` says; then all are answered, or the model dies where one
    of them is "poison".

    "hang or ok" hangs on the server that is asked first, and is answered by any other.

    state: of the model: "ready", "dead", "unloaded" or "loading"; urgent_state: the same of generator_urgent, "absent"
    where it is not in the repository. revives: whether a load brings them back.
    hangs: whether every row hangs, until the model dies. keeps: what rows that come to a dead model wait for, as Triton
    may keep them for half a minute.
    """

    state: str = "ready"
    urgent_state: str = "ready"
    revives: bool = True
    hangs: bool = False
    keeps: asyncio.Event | None = None
    address: str = ""
    control: list[str] = field(default_factory=list[str])
    """Loads and unloads that were asked for, and of which model."""
    asked: list[str] = field(default_factory=list[str])
    """The words of the rows that came."""
    models: list[str] = field(default_factory=list[str])
    """Which model each was for."""
    sampling: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Their parameters."""
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What Triton itself was told of them: priority, timeout."""
    died: asyncio.Event = field(default_factory=asyncio.Event)
    crowd: int = 1
    running: int = 0
    """Rows that hang or are kept, and were not cancelled."""
    gathered: list[str] = field(default_factory=list[str])
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, met: Callable[[], bool]) -> None:
        async with self.changed:
            async with asyncio.timeout(60):
                await self.changed.wait_for(met)

    def die(self) -> None:
        """End the model's process, and every row that hangs with it."""
        self.state = "dead"
        self.died.set()

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return messages.ModelReadyResponse(ready=self._state_of(request.name) in ("ready", "dead"))

    def _state_of(self, model: str) -> str:
        return self.urgent_state if model == "generator_urgent" else self.state

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        states = {"unloaded": ("UNAVAILABLE", "unloaded"), "loading": ("LOADING", "")}
        index = messages.RepositoryIndexResponse()
        for model in ("generator", "generator_urgent"):
            if self._state_of(model) != "absent":
                state, reason = states.get(self._state_of(model), ("READY", ""))
                index.models.add(name=model, version="1", state=state, reason=reason)
        return index

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        self.control.append(f"load {request.model_name}")
        if self.revives and request.model_name == "generator":
            self.state = "ready"
        elif self.revives:
            self.urgent_state = "ready"
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self.control.append(f"unload {request.model_name}")
        return messages.RepositoryModelUnloadResponse()

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            prompt = request.raw_input_contents[0][4:].decode()
            if self._state_of(request.model_name) == "dead":
                if self.keeps:
                    await self._move(1)
                    await self.keeps.wait()
                yield messages.ModelStreamInferResponse(error_message=DIED)
                continue
            word = prompt.rstrip("\n").rpartition("\n")[2]
            if word:
                self.asked.append(word)
                self.models.append(request.model_name)
                self.sampling.append(json.loads(request.raw_input_contents[1][4:]))
                self.told.append({name: _value(each) for name, each in request.parameters.items()})
            if word == "hang" or (word and self.hangs):
                await self._hang()
                yield messages.ModelStreamInferResponse(error_message=DIED)
            elif word in ("crowd", "poison"):
                survived = await self._gather(word)
                yield answered(request, "ok") if survived else messages.ModelStreamInferResponse(error_message=DIED)
            elif word in ANSWERS:
                yield answered(request, word)
            elif word != "nothing":
                yield messages.ModelStreamInferResponse(error_message=word or "invalid_params: text_input is empty")

    async def _gather(self, word: str) -> bool:
        """Whether the model outlives it."""
        async with self.changed:
            self.gathered.append(word)
            company = self.gathered
            if len(company) == self.crowd:
                self.gathered = []
                if "poison" in company:
                    self.state = "dead"
                self.changed.notify_all()
            await self.changed.wait_for(lambda: len(company) == self.crowd)
        return "poison" not in company

    async def _hang(self) -> None:
        await self._move(1)
        try:
            await self.died.wait()
        finally:
            await self._move(-1)

    async def _move(self, by: int) -> None:
        async with self.changed:
            self.running += by
            self.changed.notify_all()


def _value(parameter: Any) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))


def answered(request: Any, word: str) -> Any:
    response = messages.ModelStreamInferResponse(infer_response=ANSWERS[word])
    response.infer_response.id = "another row's" if word == "another's" else request.id
    return response


def answer(text: bytes, finish_reason: bytes = b"stop", *, counted: bool = True) -> Any:
    response = messages.ModelInferResponse(model_name="generator")
    columns: list[tuple[str, str, bytes]] = [
        ("text_output", "BYTES", packed(text)),
        ("finish_reason", "BYTES", packed(finish_reason)),
    ]
    if counted:
        columns += [
            ("num_input_tokens", "UINT32", np.array([3], np.uint32).tobytes()),
            ("num_output_tokens", "UINT32", np.array([2], np.uint32).tobytes()),
        ]
    for name, kind, content in columns:
        response.outputs.add(name=name, datatype=kind, shape=[1])
        response.raw_output_contents.append(content)
    return response


def queued() -> Any:
    """Its first token took a minute."""
    response = answer(b"a mill")
    response.outputs.add(name="first_token_ms", datatype="UINT32", shape=[1])
    response.raw_output_contents.append(np.array([60_000], np.uint32).tobytes())
    return response


def unlikely(logprob: float) -> Any:
    """logprob: of its two tokens together."""
    response = answer(b"a mill")
    response.outputs.add(name="cumulative_logprob", datatype="FP32", shape=[1])
    response.raw_output_contents.append(np.array([logprob], np.float32).tobytes())
    return response


def garbled() -> Any:
    """The text's own length is more than there is."""
    response = answer(b"a mill")
    response.raw_output_contents[0] = b"\xff\xff\xff\x7fmill"
    return response


def packed(text: bytes) -> bytes:
    return serialize_byte_tensor(np.array([text], dtype=np.object_)).item()


ANSWERS = {
    "ok": answer("a mill 🦆".encode()),
    "not-utf8": answer(b"\xff\xfe"),
    "uncounted": answer(b"a mill", counted=False),
    "unfinished": answer(b"a mill", b"None"),
    "garbled": garbled(),
    "another's": answer(b"a mill"),
    "queued": queued(),
    "declines": answer(b"I'm sorry, but I can't do that."),
    "nan": unlikely(float("nan")),
    "unlikely": unlikely(-20.0),
}


@asynccontextmanager
async def serving(triton: Triton) -> AsyncGenerator[Triton]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    triton.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield triton
    finally:
        await server.stop(None)
