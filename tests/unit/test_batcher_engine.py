"""What the batcher makes of a model that fails in every way: row by row, and as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from batcher_triton import DIED, Triton, serving

from millpond_batcher.engine import Engine
from millpond_batcher.revival import Revival
from millpond_core.errors import Code, EngineError, Refused

PATIENCE_S = 60


@pytest_asyncio.fixture
async def triton() -> AsyncGenerator[Triton]:
    async with serving(Triton()) as running:
        yield running


@pytest_asyncio.fixture
async def engine(triton: Triton) -> AsyncGenerator[Engine]:
    engine = Engine(triton.address, "generator")
    yield engine
    await engine.close()


async def test_an_answer_comes_with_its_counts(engine: Engine) -> None:
    completion = await engine.complete("ok", "{}", timeout_s=PATIENCE_S)
    assert (completion.text, completion.finish_reason) == ("a mill 🦆", "stop")
    assert (completion.input_tokens, completion.output_tokens) == (3, 2)


async def test_a_row_has_its_priority_and_its_time_in_tritons_own_words(triton: Triton, engine: Engine) -> None:
    await engine.complete("ok", "{}", timeout_s=60, urgent=True)
    await engine.complete("ok", "{}", timeout_s=1.5)
    assert triton.told == [
        {"priority": 1, "timeout": 60_000_000},
        {"priority": 2, "timeout": 1_500_000},
    ]


@pytest.mark.parametrize(
    ("message", "code", "told"),
    [
        ("context_length_exceeded: the prompt has 9 tokens", Code.CONTEXT_LENGTH_EXCEEDED, "the prompt has 9 tokens"),
        ("invalid_params: top_k must be more", Code.INVALID_PARAMS, "top_k must be more"),
        ("Prompt of 9 is longer than the maximum model length of 8", Code.CONTEXT_LENGTH_EXCEEDED, "length of 8"),
    ],
)
async def test_a_request_at_fault_is_refused_in_the_engines_words(
    engine: Engine, message: str, code: Code, told: str
) -> None:
    with pytest.raises(Refused, match=told) as refused:
        await engine.complete(message, "{}", timeout_s=PATIENCE_S)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("not-utf8", Code.ENGINE_ERROR),
        ("uncounted", Code.ENGINE_ERROR),
        ("unfinished", Code.ENGINE_ERROR),
        ("garbled", Code.ENGINE_ERROR),
        ("nothing", Code.ENGINE_ERROR),
        ("another's", Code.ENGINE_ERROR),
        ("engine_error: the row does not fit", Code.ENGINE_ERROR),
        ("invalid_params: unknown parameter lora_name", Code.ENGINE_ERROR),
        (DIED, Code.ENGINE_UNAVAILABLE),
        ("Request for unknown model: 'generator' is not found", Code.ENGINE_UNAVAILABLE),
        ("'generator' version 1 is not at ready state", Code.ENGINE_UNAVAILABLE),
    ],
)
async def test_a_failure_or_an_answer_without_sense_may_be_tried_again(engine: Engine, word: str, code: Code) -> None:
    with pytest.raises(EngineError) as failure:
        await engine.complete(word, "{}", timeout_s=PATIENCE_S)
    assert failure.value.code == code
    assert failure.value.retryable


async def test_a_death_that_no_row_is_told_of_is_noticed(
    triton: Triton, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is sent after it, and Triton says nothing to the one that runs."""
    monkeypatch.setattr("millpond_batcher.engine.WATCH_EVERY_S", 0.05)
    row = asyncio.create_task(engine.complete("hang", "{}", timeout_s=PATIENCE_S))
    await triton.until(lambda: triton.running == 1)
    triton.state = "dead"
    with pytest.raises(EngineError, match="is not healthy"):
        async with asyncio.timeout(PATIENCE_S / 2):
            await row


async def test_rows_outlive_the_death_of_the_process_before_theirs_though_it_is_told_late(
    triton: Triton, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton keeps what it is asked of a dead process, and says so when the model has been loaded again."""
    monkeypatch.setattr("millpond_batcher.engine.WATCH_EVERY_S", 0.05)
    before = asyncio.create_task(engine.complete("hang", "{}", timeout_s=PATIENCE_S))
    await triton.until(lambda: triton.running == 1)
    triton.state, triton.keeps = "dead", asyncio.Event()
    await triton.until(lambda: triton.running == 2)
    await engine.load()
    after = asyncio.create_task(engine.complete("hang", "{}", timeout_s=PATIENCE_S))
    await triton.until(lambda: triton.running == 3)
    triton.keeps.set()
    with pytest.raises(EngineError):
        await before
    assert not after.done()
    assert await engine.fault() is None
    after.cancel()


async def test_a_row_that_never_answers_is_cancelled_and_may_be_tried_again(triton: Triton, engine: Engine) -> None:
    with pytest.raises(EngineError, match="no answer in") as failure:
        await engine.complete("hang", "{}", timeout_s=0.2)
    assert failure.value.code == Code.ENGINE_UNAVAILABLE
    await triton.until(lambda: triton.running == 0)


async def test_a_row_that_is_given_up_is_cancelled_in_triton(triton: Triton, engine: Engine) -> None:
    row = asyncio.create_task(engine.complete("hang", "{}", timeout_s=PATIENCE_S))
    await triton.until(lambda: triton.running == 1)
    row.cancel()
    await triton.until(lambda: triton.running == 0)


async def test_all_rows_of_a_model_that_died_are_over_once_one_is_told(triton: Triton, engine: Engine) -> None:
    rows = [asyncio.create_task(engine.complete("hang", "{}", timeout_s=PATIENCE_S)) for _ in range(3)]
    await triton.until(lambda: triton.running == 3)
    with pytest.raises(EngineError):
        await engine.complete(DIED, "{}", timeout_s=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        failures = await asyncio.gather(*rows, return_exceptions=True)
    assert all(isinstance(each, EngineError) and each.code == Code.ENGINE_UNAVAILABLE for each in failures)


async def test_a_triton_that_is_not_there_is_unavailable() -> None:
    engine = Engine("127.0.0.1:9", "generator")
    with pytest.raises(EngineError) as failure:
        await engine.complete("ok", "{}", timeout_s=PATIENCE_S)
    assert failure.value.code == Code.ENGINE_UNAVAILABLE
    fault = await engine.fault()
    assert fault is not None
    assert fault.kind == "away"
    await engine.close()


@pytest.mark.parametrize(("state", "kind"), [("dead", "dead"), ("unloaded", "unloaded"), ("loading", "away")])
async def test_a_model_that_does_not_answer_is_told_from_one_that_does(
    triton: Triton, engine: Engine, state: str, kind: str
) -> None:
    assert await engine.fault() is None
    triton.state = state
    fault = await engine.fault()
    assert fault is not None
    assert fault.kind == kind


@pytest.mark.parametrize(
    ("state", "asked"),
    [("dead", ["unload generator", "load generator"]), ("unloaded", ["load generator"]), ("ready", [])],
)
async def test_a_model_that_is_gone_is_loaded_again(
    triton: Triton, engine: Engine, state: str, asked: list[str]
) -> None:
    triton.state = state
    async with asyncio.timeout(PATIENCE_S):
        await Revival(engine, "generator", reload=True).answering()
    assert triton.control == asked
    assert await engine.fault() is None


async def test_a_model_that_dies_when_it_is_loaded_is_not_loaded_again_at_once(triton: Triton, engine: Engine) -> None:
    triton.state, triton.revives = "dead", False
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await Revival(engine, "generator", reload=True).answering()
    assert triton.control == ["unload generator", "load generator"]


async def test_a_model_that_answered_and_died_again_is_loaded_at_once(triton: Triton, engine: Engine) -> None:
    revival = Revival(engine, "generator", reload=True)
    for _ in range(3):
        triton.state = "dead"
        async with asyncio.timeout(30):
            await revival.answering()
    assert triton.control == ["unload generator", "load generator"] * 3


async def test_no_model_is_loaded_where_a_person_loads_them(triton: Triton, engine: Engine) -> None:
    triton.state = "dead"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await Revival(engine, "generator", reload=False).answering()
    assert triton.control == []
