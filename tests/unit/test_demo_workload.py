"""Laws of the demo's work."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.demo.docstrings import CHARACTERS, Text, standard_library, texts
from millpond_cli.demo.questions import QUESTIONS
from millpond_cli.demo.workload import EXPLAIN, TENANTS, Demand, TooFewTexts, workload
from millpond_core.codec import decode_request
from millpond_core.identity import key_of
from millpond_core.settings import LimitsSettings
from millpond_core.validate import validate


def supply() -> Iterator[Text]:
    return (
        Text(f"module.name_{n}", f"What number {n} is for. " * 10, f"def f{n}():\n    ...") for n in itertools.count()
    )


def prompts(demands: Iterable[Demand]) -> list[tuple[str, str]]:
    return [(body["tenant"], body["messages"][-1]["content"]) for body in (orjson.loads(each.body) for each in demands)]


@given(st.integers(1, 1500))
def test_there_are_as_many_requests_as_asked_for_each_with_an_id_of_its_own(count: int) -> None:
    demands = workload(supply(), count, "run")
    assert len(demands) == count
    assert len({demand.key for demand in demands}) == count


@given(st.integers(1, 1500))
def test_the_same_texts_make_the_same_work(count: int) -> None:
    assert workload(supply(), count, "run") == workload(supply(), count, "run")


@given(st.integers(1, 300))
def test_every_request_is_one_that_the_contract_takes(count: int) -> None:
    for demand in workload(supply(), count, "run"):
        request, _ = decode_request(demand.body, None, 1 << 20)
        validate(request, LimitsSettings(), ("auto",), now=0)
        assert demand.key == key_of(request.tenant, request.id)


def test_what_is_asked_again_was_asked_before_by_the_same_tenant() -> None:
    demands = workload(supply(), 500, "run")
    first = {*prompts([demand for demand in demands if demand.wave == 1])}
    wordings = {wording: question for question, *others in QUESTIONS for wording in (question, *others)}
    again = prompts([demand for demand in demands if demand.wave == 2])
    assert len(again) == 175
    assert all((tenant, wordings.get(prompt, prompt)) in first for tenant, prompt in again)


def test_five_hundred_requests_are_of_all_kinds_tiers_and_tenants() -> None:
    demands = workload(supply(), 500, "run")
    bodies = [orjson.loads(demand.body) for demand in demands]
    assert {demand.kind for demand in demands} == {
        *("summarise", "classify", "question", EXPLAIN),
        *("reworded", "repeated"),
    }
    assert {body["tier"] for body in bodies} == {"realtime", "standard", "overnight"}
    assert {body["tenant"] for body in bodies} == {*TENANTS}


def test_a_library_with_too_little_text_is_said_to_be_so() -> None:
    with pytest.raises(TooFewTexts, match="--input"):
        workload(itertools.islice(supply(), 20), 500, "run")


def test_the_standard_library_has_text_for_the_demo_and_gives_it_in_one_order() -> None:
    some = [*itertools.islice(texts(standard_library()), 300)]
    assert some == [*itertools.islice(texts(standard_library()), 300)]
    assert len({text.docstring for text in some}) == 300
    assert all(len(text.docstring) in CHARACTERS for text in some)
    assert any(text.code for text in some)


def test_a_file_that_is_no_python_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xff\xfe def")
    (tmp_path / "b.py").write_text(f'def f():\n    """{"Says what it does. " * 10}"""\n')
    assert [text.name for text in texts(tmp_path)] == ["b.f"]
