"""The embedder's client, against the real Triton and against servers that are no help."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from millpond_cli.stack import Stack
from millpond_core.embedder import MAX_ROWS, Embedder
from millpond_core.embedding import READS_TOKENS, cosine, reads_all, unpack
from millpond_core.errors import Code, EngineError

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("MILLPOND_HOME") or REPOSITORY / ".millpond")

PORTS = 20_400
"""Port base of this file's Triton."""

PATIENCE_S = 120.0
"""Until an answer that must come is missed."""

TEXTS = [f"What is {number} times {number + 1}?" for number in range(3 * MAX_ROWS)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Stack(HOME, PORTS, only={"triton"}, run=tmp_path_factory.mktemp("triton")) as stack:
        yield stack.addresses.triton


@pytest_asyncio.fixture
async def embedder(address: str) -> AsyncIterator[Embedder]:
    client = Embedder(address, timeout_s=PATIENCE_S)
    yield client
    await client.close()


async def test_embeddings_come_in_the_order_of_their_texts(embedder: Embedder) -> None:
    together = await embedder.embed(TEXTS)
    alone = [(await embedder.embed([text]))[0] for text in TEXTS[:: MAX_ROWS // 2]]
    assert len(together) == len(TEXTS)
    for one, same in zip(alone, together[:: MAX_ROWS // 2], strict=True):
        assert cosine(one, same) > 0.999


@pytest.mark.parametrize("text", ["", "word " * 200, "word " * 300, "a" * 500_000, " " * 500_000, "word " * 100_000])
async def test_whether_all_of_a_text_is_read_is_known_however_long_it_is(embedder: Embedder, text: str) -> None:
    (embedding,) = await embedder.embed([text])
    assert reads_all(embedding) == (len(text) <= 5 * 200)


async def test_an_embedding_is_whole(embedder: Embedder) -> None:
    (embedding,) = await embedder.embed(["Where does the river begin?"])
    assert embedding.version.startswith("all-minilm-l6-v2-")
    assert unpack(embedding).shape == (384,)
    assert np.linalg.norm(unpack(embedding)) == pytest.approx(1, abs=1e-3)
    assert reads_all(embedding)


async def test_a_text_longer_than_the_embedder_reads_says_so(embedder: Embedder) -> None:
    (embedding,) = await embedder.embed(["river " * 2 * READS_TOKENS])
    assert not reads_all(embedding)


async def test_many_callers_share_a_connection(embedder: Embedder) -> None:
    answers = await asyncio.gather(*(embedder.embed([text]) for text in TEXTS))
    together = await embedder.embed(TEXTS)
    assert min(cosine(one, same) for (one,), same in zip(answers, together, strict=True)) > 0.999


async def test_no_texts_have_no_embeddings(embedder: Embedder) -> None:
    assert await embedder.embed([]) == []


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Embedder(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(EngineError) as failure:
            await client.embed(["Anyone there?"])
        await client.close()
    assert failure.value.code is Code.ENGINE_UNAVAILABLE
    assert failure.value.retryable


async def test_a_server_that_was_away_is_found_when_it_comes(tmp_path: Path) -> None:
    ports = PORTS + 200
    client = Embedder(f"127.0.0.1:{ports + 81}", timeout_s=1)
    with pytest.raises(EngineError) as failure:
        await client.embed(["Too early?"])
    assert failure.value.code is Code.ENGINE_UNAVAILABLE
    with Stack(HOME, ports, only={"triton"}, run=tmp_path) as stack:
        assert stack.addresses.triton == f"127.0.0.1:{ports + 81}"
        async with asyncio.timeout(PATIENCE_S):
            while not await answers(client):
                pass
    await client.close()


async def answers(client: Embedder) -> bool:
    try:
        return len(await client.embed(["And now?"])) == 1
    except EngineError:
        return False
