"""The echo answers each prompt with itself, and its file of calls has every call, whoever is killed afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from millpond_cli.stack import MODELS, Stack, StackError
from millpond_cli.stack.components import COMPONENTS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "echo" / "generator" / "1"))

from echo import CALLS_VARIABLE, echo

MODELS_FOLDER = Path(__file__).resolve().parents[2] / "models"


def test_what_fits_comes_back_as_it_is() -> None:
    answer = echo("two  words\n", 2)
    assert (answer.text, answer.finish_reason, answer.input_tokens, answer.output_tokens) == (
        "two  words\n",
        "stop",
        2,
        2,
    )


def test_what_does_not_fit_is_cut_and_says_so() -> None:
    answer = echo("one two three", 2)
    assert (answer.text, answer.finish_reason, answer.input_tokens, answer.output_tokens) == ("one two", "length", 3, 2)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


@pytest.fixture
def client(calls: Path) -> Iterator[openai.OpenAI]:
    command = [sys.executable, str(MODELS_FOLDER / "echo" / "stand_in.py"), "--port", "0", "--assets", "none"]
    environment = {**os.environ, CALLS_VARIABLE: str(calls)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
            yield client
        server.kill()


def test_the_stand_in_answers_whole_and_in_pieces_and_notes_each_call(client: openai.OpenAI, calls: Path) -> None:
    asked = client.chat.completions.create(model="large", messages=[{"role": "user", "content": "first words"}])
    assert asked.choices[0].message.content == "first words"
    assert asked.choices[0].finish_reason == "stop"
    assert asked.usage is not None and asked.usage.prompt_tokens == 2
    pieces = list(
        client.chat.completions.create(
            model="large", messages=[{"role": "user", "content": "second\nwords"}], max_tokens=8, stream=True
        )
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "second\nwords"
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert calls.read_text().splitlines() == ["first words", "second words"]


def test_a_request_that_cannot_be_read_is_told_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="large", messages=[{"role": "user"}])  # pyright: ignore[reportArgumentType]


def test_the_echo_takes_and_gives_what_the_generator_does() -> None:
    def tensors(folder: str) -> str:
        text = (MODELS_FOLDER / folder / "config.pbtxt").read_text()
        return text[text.index("input [") : text.index("instance_group")]

    assert tensors("echo/generator") == tensors("generator")


def test_every_kind_of_models_has_its_folder_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    for folder in MODELS.values():
        assert (MODELS_FOLDER.parent / folder / "stand_in.py").is_file()
    assert {"triton", "stand-in"} <= {component.name for component in COMPONENTS}
    with pytest.raises(StackError, match="there are real, echo"):
        Stack(tmp_path, only={"kafka"}, model="none")
