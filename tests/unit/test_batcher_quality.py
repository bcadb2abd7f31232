"""Each check fails the answers that it is for, and passes good ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_batcher.canary import MOST_BATCHES, Canary
from millpond_batcher.quality import Checks, Failed
from millpond_batcher.suspects import company_of, is_poison
from millpond_core.batch_name import BatchName

PROSE = (
    "A mill pond holds the water back until there is enough of it to turn the wheel. In dry months the miller waits "
    "for rain, and in wet ones the overflow keeps the dam from breaking. Fish were a welcome side effect."
)

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("checks", "text", "failed"),
    [
        ({"min_characters": 3}, "  a ", "min_characters"),
        ({"max_characters": 3}, "abcd", "max_characters"),
        ({"regex": r"^\d+$"}, "about 3", "regex"),
        ({"json_schema": SCHEMA}, '{"age": "x"}', "json_schema"),
        ({"json_schema": SCHEMA}, '{"age": 1', "json_schema"),
        ({"json_schema": SCHEMA}, '{"age": NaN}', "json_schema"),
        ({"json_schema": SCHEMA}, "[" * 100_000, "json_schema"),
        ({"json_schema": {"multipleOf": 0.01}}, "1e999", "json_schema"),
        ({"json_schema": {"multipleOf": 0.01}}, "1" * 400, "json_schema"),
        ({"json_schema": {"items": {"$ref": "#"}}}, "[" * 400 + "]" * 400, "json_schema"),
        ({"refusal": True}, "I'm sorry, but I can't help with that.", "refusal"),
        ({"refusal": True}, "As an AI language model, I have no opinion.", "refusal"),
        ({"refusal": True}, "Unfortunately, I cannot open files.", "refusal"),
        ({"repetition": True}, "the mill is a mill and " * 12, "repetition"),
        ({"repetition": True}, "a" * 64, "repetition"),
        ({"language": "de"}, PROSE, "language"),
    ],
)
def test_a_check_fails_what_it_is_for(checks: dict[str, Any], text: str, failed: str) -> None:
    verdict = Checks(**checks).verdict(text, None)
    assert verdict is not None
    assert verdict.check == failed
    # The reason goes into results and logs, the answer's words do not.
    assert "x" not in verdict.reason.split()


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        ({"min_characters": 3, "max_characters": 300, "refusal": True, "repetition": True, "language": "en"}, PROSE),
        ({"json_schema": SCHEMA}, '{"age": 3}'),
        ({"regex": r"^\d+$"}, "3"),
        ({"refusal": True}, "The guest was sorry that the miller said: I can't help you."),
        ({"repetition": True}, "no no no no"),
        ({"language": "de"}, "Ja."),
    ],
)
def test_a_good_answer_passes(checks: dict[str, Any], text: str) -> None:
    assert Checks(**checks).verdict(text, None) is None


def test_a_model_that_guesses_fails_where_it_says_so() -> None:
    checks = Checks(min_mean_logprob=-1.5)
    assert checks.verdict("text", -1.6) == Failed("min_mean_logprob", "-1.60 a token, less than -1.5")
    assert checks.verdict("text", -1.4) is None
    assert checks.verdict("text", None) is None


@given(st.text())
def test_any_text_has_a_verdict(text: str) -> None:
    every = Checks(SCHEMA, "a", 1, 10, "en", refusal=True, repetition=True, min_mean_logprob=-1)
    every.verdict(text, -2)


BATCH = BatchName("acme", "march")


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.floats(0, 1))
def test_a_batch_is_held_exactly_where_too_many_of_its_first_answers_fail(fails: list[bool], most: float) -> None:
    canary = Canary(20, most)
    assert all(canary.admit(BATCH) for _ in range(20))
    assert not canary.admit(BATCH)
    state = [canary.judge(BATCH, failed=failed) for failed in fails][-1]
    assert state == ("held" if sum(fails) > most * 20 else "open")
    assert canary.admit(BATCH) == (state == "open")
    assert canary.admit(BatchName("globex", "march"))
    canary.resume(BATCH)
    assert canary.admit(BATCH)


@given(st.lists(st.sampled_from(["admit", "withdraw", "judge"]), max_size=60))
def test_no_more_are_out_than_the_canary_has_rows(acts: list[str]) -> None:
    canary, out, judged = Canary(5, 1.0), 0, 0
    for act in acts:
        if act == "admit" and judged < 5 and canary.admit(BATCH):
            out += 1
        elif act == "withdraw" and out:
            canary.withdraw(BATCH)
            out -= 1
        elif act == "judge" and out:
            canary.judge(BATCH, failed=False)
            out, judged = out - 1, judged + 1
        assert judged >= 5 or out + judged <= 5


def test_batches_that_are_remembered_are_bounded() -> None:
    canary = Canary(1, 0)
    for number in range(MOST_BATCHES + 10):
        canary.admit(BatchName("acme", str(number)))
        canary.judge(BatchName("acme", str(number)), failed=True)
    assert len(canary.held) == MOST_BATCHES


@given(st.integers(1, 10).map(lambda power: 2**power), st.integers(0, 20))
def test_a_request_is_poison_only_when_its_model_has_died_twice_under_it_alone(rows: int, deaths: int) -> None:
    companies = [company_of(each, rows) for each in range(deaths)]
    assert is_poison(deaths, rows) == (companies[-2:] == [1, 1])


def test_where_all_run_alone_one_death_may_be_a_chance() -> None:
    assert not is_poison(1, 1)
    assert is_poison(2, 1)
