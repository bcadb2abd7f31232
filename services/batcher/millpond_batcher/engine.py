"""One language model's process in Triton, asked row by row over gRPC; the engine there batches rows at every token.

Each row has a stream of its own: Triton gives up what a row takes in the engine only with its whole stream. The stream
is gRPC's own, with Triton's messages: through tritonclient's it would cost 1.25 ms of the processor a row, not 0.75.

Source: the tensors and the errors are those of Triton's vLLM backend, see models/README.md.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import tritonclient.grpc.aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from millpond_core.embedder import CHANNEL
from millpond_core.errors import Code, EngineError, Refused

MESSAGES: Any = service_pb2
END: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]

FINISH_REASONS = ("stop", "length")

COUNTS = (
    "return_finish_reason",
    "return_num_input_tokens",
    "return_num_output_tokens",
    "return_cumulative_logprob",
)

REFUSALS = {
    "context_length_exceeded:": Code.CONTEXT_LENGTH_EXCEEDED,
    "invalid_params:": Code.INVALID_PARAMS,
    # vLLM's own words.
    "longer than the maximum model length": Code.CONTEXT_LENGTH_EXCEEDED,
}
"""What an error says where the request is at fault."""

ADAPTER = "lora_name"
"""Where an error is about it, the settings are at fault: no request names it."""

DEAD = "is not healthy"
"""What Triton says of a model whose process has ended."""

AWAY = (DEAD, "not at ready state", "unknown model", "is not found", "server is stopping", "shutting down")
"""What an error says where the model is not there."""

FLAGS = {"stream": False, "exclude_input_in_output": True, **dict.fromkeys(COUNTS, True)}
"""What is asked of the engine for every row."""

STARTING = 4
"""Rows that are not urgent and are handed over at the same time. A batch's 64 at once would keep the event loop for
100 ms, and an urgent row at each of its steps behind all of them."""

FIRST_TOKEN_TENSOR = "first_token_ms"  # noqa: S105
"""Of a response: milliseconds until the row's first token. models/generator writes it, vLLM does not."""

CHECK_S = 5.0
"""Seconds that a look at the model's state may take: a busy engine answers between two of its steps."""

EMPTY_ROW = ("", '{"max_tokens": 1}')
"""Prompt and sampling of a look whether a model answers: it is refused at once and costs no tokens."""

WATCH_EVERY_S = 2.0
"""Between two looks at a model while rows run: Triton tells no row that runs of its process's end, only a new one."""

WATCH_S = 60.0
"""Seconds that such a look may take: Triton may keep what it is asked of a dead process for half a minute."""

LOAD_S = 300.0
"""Seconds that loading a model may take: minutes for a large one."""


@dataclass(frozen=True)
class Completion:
    """finish_reason: "stop" or "length"."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    first_token_s: float | None = None
    """From when the engine had the row to its first token, where the engine tells it."""
    mean_logprob: float | None = None
    """Of its tokens, where the sampling parameters asked for it."""


@dataclass(frozen=True)
class Fault:
    """Why a model does not answer. kind: "dead": its process ended; "unloaded": Triton was told so;
    "away": other.
    """

    kind: Literal["away", "dead", "unloaded"]
    reason: str


class Engine:
    """address: Triton's gRPC address, "host:port". model: its name there. Made inside the event loop that uses it."""

    def __init__(self, address: str, model: str) -> None:
        self._client = triton.InferenceServerClient(address, channel_args=CHANNEL)
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL)
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelStreamInfer
        self._starting = asyncio.Semaphore(STARTING)
        self._address = address
        self._model = model
        self._numbers = itertools.count(1)
        self._process = 0
        """How many processes the model has had here before this one."""
        self._calls: dict[asyncio.Timeout, int] = {}
        """By call, the process that it was sent to."""
        self._watching: asyncio.Task[None] | None = None
        self._died: str | None = None
        """What Triton said of the process's death, until the model has another one."""

    async def complete(
        self,
        prompt: str,
        sampling: str,
        *,
        timeout_s: float,
        urgent: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Completion:
        """One row's answer. sampling: vLLM's SamplingParams as JSON. headers: gRPC metadata.

        Cancelling it frees the row in the engine.
        Raises Refused where the request is at fault; EngineError, retryable: ENGINE_UNAVAILABLE where the model is not
        there or did not answer in timeout_s, ENGINE_ERROR where it failed or its answer makes no sense.
        """
        call, process = asyncio.timeout(timeout_s), self._process
        try:
            async with call:
                self._calls[call] = process
                if self._watching is None or self._watching.done():
                    self._watching = asyncio.create_task(self._watch())
                answer = await self._ask(prompt, sampling, headers, urgent=urgent, timeout_s=timeout_s)
        except TimeoutError as failure:
            raise self._away(self._died or f"no answer in {timeout_s:g} s") from failure
        except grpc.aio.AioRpcError as failure:
            raise self._away(failure.details() or failure.code().name) from failure
        finally:
            self._calls.pop(call, None)
        if isinstance(answer, str):
            self._notice(process, answer)
            raise self._failure(answer)
        return self._completion(answer)

    async def fault(self) -> Fault | None:
        """None where the model answers. It is asked an empty row."""
        process = self._process
        try:
            async with asyncio.timeout(CHECK_S):
                if not await self._client.is_model_ready(self._model):
                    return await self._not_ready()
                answer = await self._ask(*EMPTY_ROW, None)
        except TimeoutError:
            # Triton may keep what it is asked of a dead process for half a minute.
            return Fault("dead", self._died) if self._died else Fault("away", f"no answer in {CHECK_S:g} s")
        except InferenceServerException as failure:
            return Fault("away", failure.message())
        except grpc.aio.AioRpcError as failure:
            return Fault("away", failure.details() or failure.code().name)
        if isinstance(answer, str) and DEAD in answer:
            self._notice(process, answer)
            return Fault("dead", answer)
        if self._died:
            # Another replica of this service loaded it.
            self._begin_process()
        return None

    async def load(self) -> None:
        """Raises EngineError."""
        await self._control(self._client.load_model(self._model, client_timeout=LOAD_S))
        self._begin_process()

    async def unload(self) -> None:
        """Raises EngineError."""
        await self._control(self._client.unload_model(self._model, client_timeout=LOAD_S))

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._client.close()
        await self._channel.close()

    async def _ask(
        self,
        prompt: str,
        sampling: str,
        headers: Mapping[str, str] | None,
        *,
        urgent: bool = False,
        timeout_s: float = CHECK_S,
    ) -> triton.InferResult | str:
        """The row's one response, or the error in Triton's words. Raises AioRpcError."""
        number = str(next(self._numbers))
        request = _request(self._model, number, prompt, sampling, urgent=urgent, timeout_s=timeout_s)
        stream: Any = self._infer(metadata=tuple((headers or {}).items()))
        answer: triton.InferResult | str = "the model ended the row without an answer"
        try:
            async with nullcontext() if urgent else self._starting:
                # A stream that is over already says why to whom reads it.
                with suppress(asyncio.InvalidStateError):
                    await stream.write(request)
                    await stream.done_writing()
            # To the stream's end: one that is cancelled while Triton ends it is kept in Triton for ever, and a model
            # with a stream left is never unloaded. Seen with Triton 2.51, for one of some thirty rows.
            while (response := await stream.read()) is not END:
                result = triton.InferResult(response.infer_response)
                answer = response.error_message or result
                if not response.error_message and response.infer_response.id != number:
                    answer = f"it answered row {response.infer_response.id!r} in the place of {number}"
        finally:
            # Without it a row that was given up would run to its end.
            stream.cancel()
        return answer

    async def _watch(self) -> None:
        """While rows run, look whether the model's process lives."""
        while self._calls:
            await asyncio.sleep(WATCH_EVERY_S)
            process = self._process
            # Whatever else is wrong, the rows themselves are told.
            with suppress(TimeoutError, grpc.aio.AioRpcError):
                async with asyncio.timeout(WATCH_S):
                    answer = await self._ask(*EMPTY_ROW, None, urgent=True)
                    if isinstance(answer, str):
                        self._notice(process, answer)

    def _begin_process(self) -> None:
        self._process += 1
        self._died = None

    def _notice(self, process: int, message: str) -> None:
        """Where it says that the process has ended, none of its rows will be answered, and Triton tells only some.

        Triton may say so when the model has its next process: that one's rows go on.
        """
        if DEAD not in message:
            return
        if process == self._process:
            self._died = message
        now = asyncio.get_running_loop().time()
        for call, asked in self._calls.items():
            if asked == process:
                call.reschedule(now)

    def _completion(self, result: triton.InferResult) -> Completion:
        try:
            text = bytes(_first(result, "text_output")).decode("utf-8")
            finish_reason = bytes(_first(result, "finish_reason")).decode("utf-8")
            input_tokens = int(_first(result, "num_input_tokens"))
            output_tokens = int(_first(result, "num_output_tokens"))
        except (ValueError, TypeError, IndexError, struct.error) as failure:
            raise self._error(f"its answer cannot be read: {failure}") from failure
        if finish_reason not in FINISH_REASONS:
            raise self._error(f"its answer ended with {finish_reason[:64]!r}")
        logprob = _mean_logprob(result, output_tokens)
        return Completion(text, finish_reason, input_tokens, output_tokens, _first_token_s(result), logprob)

    async def _not_ready(self) -> Fault:
        index: Any = await self._client.get_model_repository_index()
        states = [(each.state, each.reason) for each in index.models if each.name == self._model]
        if not states:
            return Fault("away", "Triton has no such model in its repository")
        if any(reason == "unloaded" for _, reason in states) or all(state == "" for state, _ in states):
            return Fault("unloaded", "it is not loaded")
        return Fault("away", ", ".join(f"{state} {reason}".strip() for state, reason in states))

    async def _control(self, call: Any) -> None:
        try:
            await call
        except InferenceServerException as failure:
            raise self._error(failure.message()) from failure

    def _failure(self, message: str) -> Refused | EngineError:
        if ADAPTER in message:
            return self._error(f"{message}: the model's `adapter` in the settings wants an engine that has it, as vLLM")
        for words, code in REFUSALS.items():
            if words in message:
                return Refused(code, message.partition(words)[2].strip() if words.endswith(":") else message)
        return self._away(message) if any(words in message for words in AWAY) else self._error(message)

    def _away(self, message: str) -> EngineError:
        return EngineError(Code.ENGINE_UNAVAILABLE, self._told(message), retryable=True)

    def _error(self, message: str) -> EngineError:
        return EngineError(Code.ENGINE_ERROR, self._told(message), retryable=True)

    def _told(self, message: str) -> str:
        return f"the model {self._model} in Triton at {self._address}: {message}"


def _request(model: str, number: str, prompt: str, sampling: str, *, urgent: bool, timeout_s: float) -> Any:
    """A ModelInferRequest."""
    request = MESSAGES.ModelInferRequest()
    request.CopyFrom(ROW)
    request.model_name, request.id = model, number
    # Triton's own, for models whose configuration has priority levels and a queue.
    request.parameters["priority"].uint64_param = 1 if urgent else 2
    request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
    request.raw_input_contents.extend([_text(prompt), _text(sampling), *FLAG_CONTENTS])
    return request


def _row() -> Any:
    """A ModelInferRequest with what those of all rows have in common: names and types, in the order of the contents."""
    names = {"text_input": "BYTES", "sampling_parameters": "BYTES", **dict.fromkeys(FLAGS, "BOOL")}
    tensor = MESSAGES.ModelInferRequest.InferInputTensor
    return MESSAGES.ModelInferRequest(inputs=[tensor(name=n, datatype=kind, shape=[1]) for n, kind in names.items()])


ROW = _row()

FLAG_CONTENTS = [bytes([value]) for value in FLAGS.values()]


def _text(text: str) -> bytes:
    """As Triton has a string in a tensor: its length before it."""
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def _first(result: triton.InferResult, name: str) -> Any:
    values = result.as_numpy(name)
    if values is None:
        raise ValueError(f"{name} is missing")
    return values.reshape(-1)[0]


def _first_token_s(result: triton.InferResult) -> float | None:
    values = result.as_numpy(FIRST_TOKEN_TENSOR)
    return None if values is None or not values.size else int(values.reshape(-1)[0]) / 1000


def _mean_logprob(result: triton.InferResult, output_tokens: int) -> float | None:
    """A sum of exactly 0 is what an engine sends that was not asked, and one that is not a number says nothing."""
    values = result.as_numpy("cumulative_logprob")
    if values is None or not values.size or not output_tokens:
        return None
    total = float(values.reshape(-1)[0])
    return total / output_tokens if math.isfinite(total) and total < 0 else None
