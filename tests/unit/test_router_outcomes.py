"""Outcomes move promises, each replica's in the same way; drift is named; what was learned can be taken back."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import feedback_pb2, result_pb2
from millpond_router import outcomes
from millpond_router.outcomes import FEW, LearnedError, Outcomes, WrongFeedback, feedback_of

HEADS = "1-00000000"


def judged(
    good: float, quality: float = 0.8, model: str = "small", heads: str = HEADS, id: str = ""
) -> feedback_pb2.Feedback:
    return feedback_pb2.Feedback(
        id=id or uuid.uuid4().hex,
        tenant="acme",
        model=model,
        good=good,
        heads=heads,
        quality=quality,
        raw_quality=quality,
    )


def outcomes_of(*judgements: feedback_pb2.Feedback) -> Outcomes:
    found = Outcomes(HEADS)
    for at_s, each in enumerate(judgements):
        found.add(each, at_s)
    return found


@given(st.lists(st.tuples(st.sampled_from(["small", "large"]), st.floats(0, 1), st.floats(0, 1)), max_size=40))
def test_the_same_outcomes_teach_every_replica_the_same(given_ones: list[tuple[str, float, float]]) -> None:
    judgements = [judged(good, quality, model) for model, good, quality in given_ones]
    one, other = outcomes_of(*judgements).learned(), outcomes_of(*judgements).learned()
    assert one == other
    assert bool(one.version) == bool(judgements)


def test_what_is_learned_is_what_came_of_promises() -> None:
    random = np.random.default_rng(0)
    promised = random.random(2000)
    learned = outcomes_of(
        *(judged(float(random.random() < quality / 2), float(quality)) for quality in promised)
    ).learned()
    assert learned.calibrations["small"].of(0.8) == pytest.approx(0.4, abs=0.07)
    assert "large" not in learned.calibrations


def test_judgements_of_other_heads_count_for_nothing_and_a_calibrations_version_does_not_matter() -> None:
    found = Outcomes(HEADS)
    assert not found.add(judged(1, heads="2-ffffffff"), 0)
    assert not found.learned().calibrations
    assert found.add(judged(1, heads=f"{HEADS}+12345678"), 0)
    assert found.learned().calibrations


@pytest.mark.parametrize("wrong", [{"good": 2.0}, {"good": float("nan")}, {"quality": -1.0}, {"model": ""}, {"id": ""}])
def test_what_is_no_judgement_is_refused(wrong: dict[str, object]) -> None:
    judgement = judged(1)
    for name, value in wrong.items():
        setattr(judgement, name, value)
    with pytest.raises(WrongFeedback, match=next(iter(wrong))):
        Outcomes(HEADS).add(judgement, 0)


def test_drift_is_named_and_kept_promises_are_not() -> None:
    random = np.random.default_rng(0)
    kept = outcomes_of(*(judged(float(random.random() < 0.8)) for _ in range(300))).report()["small"]
    broken = outcomes_of(*(judged(float(random.random() < 0.5)) for _ in range(300))).report()["small"]
    assert not kept.is_alarming
    assert broken.is_alarming
    assert broken.drift is not None
    assert broken.drift < 0
    few = outcomes_of(*(judged(0) for _ in range(FEW - 1))).report()["small"]
    assert few.drift is None


@given(st.permutations(range(300)))
def test_in_whatever_order_they_are_read_the_latest_outcomes_speak_of_drift(order: list[int]) -> None:
    found = Outcomes(HEADS)
    for place in order:
        found.add(judged(float(place < 260), id=str(place)), place)
    promise = found.report()["small"]
    assert promise == outcomes_of(*(judged(float(place < 260)) for place in range(300))).report()["small"]
    assert promise.recently == (pytest.approx(0.8), pytest.approx(0.8))
    assert promise.observed == pytest.approx(260 / 300)


def test_who_judges_an_answer_again_changes_their_word() -> None:
    found = outcomes_of(*[judged(0, id="a")] * 50, judged(1, id="a"))
    assert found.report()["small"].outcomes == 1
    assert found.report()["small"].observed == 1


def test_a_result_speaks_of_who_answered_and_of_who_failed_before() -> None:
    result = result_pb2.Result(
        id="a",
        tenant="acme",
        served_by=result_pb2.ServedBy(model="large"),
        attempts=[result_pb2.Attempt(model="small"), result_pb2.Attempt(model="unknown")],
    )
    judgement = result.decision.judgement
    judgement.heads = HEADS
    judgement.options.add(model="small", quality=0.6, raw_quality=0.5)
    judgement.options.add(model="large", quality=0.9, raw_quality=0.8)
    found = [(each.model, each.good, each.source, each.raw_quality) for each in feedback_of(result, 0.7, "review")]
    assert found == [("small", 0.0, "escalation", 0.5), ("large", 0.7, "review", 0.8)]
    assert [each.model for each in feedback_of(result, None, "review")] == ["small"]
    result.ClearField("decision")
    assert feedback_of(result, 0.7, "review") == []


def test_what_was_learned_is_read_again_and_can_be_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    with pytest.raises(LearnedError, match="nothing was learned"):
        outcomes.roll_back(file)
    first, second = outcomes_of(judged(1)).learned(), outcomes_of(judged(0)).learned()
    outcomes.write(first, file)
    outcomes.write(second, file)
    assert outcomes.read(file) == second
    outcomes.roll_back(file)
    assert outcomes.read(file) == first
    outcomes.roll_back(file)
    assert not file.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"heads": "a", "calibrations": {"m": {"promised": [1, 0]}}}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(content)
    with pytest.raises(LearnedError, match=r"calibration\.json: is damaged"):
        outcomes.read(file)
