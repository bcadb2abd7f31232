"""What became of answers, against what was promised: better promises, and an alarm where they drift. Pure, but for
`read`, `write` and `roll_back`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millpond.v1 import feedback_pb2, result_pb2
from millpond_router.calibration import Calibration, calibrate
from millpond_router.decide import Learned

KEPT = 5_000
"""Outcomes of one model that count, the latest: what came before says less of what it does now."""

RECENT = 200
"""Outcomes that are looked at for drift."""

FEW = 30
"""With fewer, nothing is said of drift."""

ALARM = 4.0
"""Standard deviations by which recent outcomes may miss their promises: chance does so once in 15,000 looks."""


class WrongFeedback(ValueError):
    """The feedback says nothing that could be learned; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """at_s: when it was said, seconds since 1970. good: 0 to 1. quality: as promised; raw_quality: as the heads alone
    said it.
    """

    at_s: float
    good: float
    quality: float
    raw_quality: float


About = tuple[str, str, str]
"""Tenant and id of a result, and who judged it: who judges it again means the same answer."""


@dataclass(frozen=True)
class Promise:
    """How a model kept what was promised of it. recently: (promised, observed) of the last RECENT. drift: standard
    deviations that these are off; None for too few outcomes.
    """

    outcomes: int
    promised: float
    observed: float
    recently: tuple[float, float]
    drift: float | None

    @property
    def is_alarming(self) -> bool:
        return self.drift is not None and abs(self.drift) >= ALARM


class Outcomes:
    """Of one version of the heads: another one's promises are other promises. In whatever order they are read, the same
    ones come to the same, while there are not over KEPT of a model.
    """

    def __init__(self, heads: str) -> None:
        self._heads = heads
        self._by_model: dict[str, dict[About, Outcome]] = {}

    def add(self, feedback: feedback_pb2.Feedback, at_s: float) -> bool:
        """at_s: when it was said, seconds since 1970. False where it is about other heads, or about the cache.

        Raises WrongFeedback.
        """
        if feedback.HasField("cache"):
            return False
        if not feedback.model:
            raise WrongFeedback("model: is missing")
        for name in ("good", "quality", "raw_quality"):
            number: float = getattr(feedback, name)
            if not 0 <= number <= 1:
                raise WrongFeedback(f"{name}: must be from 0 to 1, not {number}")
        if feedback.heads.partition("+")[0] != self._heads:
            return False
        if not feedback.id:
            raise WrongFeedback("id: is missing")
        outcome = Outcome(at_s, feedback.good, feedback.quality, feedback.raw_quality)
        those = self._by_model.setdefault(feedback.model, {})
        about = feedback.tenant, feedback.id, feedback.source
        those[about] = max(outcome, those.get(about, outcome), key=_order)
        if len(those) > 2 * KEPT:
            self._by_model[feedback.model] = dict(sorted(those.items(), key=lambda each: _order(each[1]))[-KEPT:])
        return True

    def _latest(self) -> dict[str, list[Outcome]]:
        """By model, in the order in which they were said."""
        return {model: sorted(those.values(), key=_order)[-KEPT:] for model, those in sorted(self._by_model.items())}

    def learned(self) -> Learned:
        """The same outcomes give the same version. Models without any keep the heads' promises."""
        calibrations = {
            model: calibrate([each.raw_quality for each in those], [each.good for each in those])
            for model, those in self._latest().items()
        }
        return Learned(version_of(self._heads, calibrations), self._heads, calibrations) if calibrations else Learned()

    def report(self) -> dict[str, Promise]:
        return {model: promise_of(those) for model, those in self._latest().items()}


def _order(outcome: Outcome) -> tuple[float, ...]:
    """By time, and those of one millisecond in an order that is always the same."""
    return outcome.at_s, outcome.good, outcome.quality, outcome.raw_quality


def promise_of(every: Sequence[Outcome]) -> Promise:
    """every: at least one outcome, the latest last."""
    recent = every[-RECENT:]
    apart = sum(each.good - each.quality for each in recent)
    # A promise of 0 or 1 is still wrong now and then.
    chance = sum(max(each.quality * (1 - each.quality), 0.01) for each in recent)
    return Promise(
        len(every),
        sum(each.quality for each in every) / len(every),
        sum(each.good for each in every) / len(every),
        (sum(each.quality for each in recent) / len(recent), sum(each.good for each in recent) / len(recent)),
        apart / math.sqrt(chance) if len(recent) >= FEW else None,
    )


def feedback_of(result: result_pb2.Result, good: float | None, source: str) -> list[feedback_pb2.Feedback]:
    """What a result and its judgement say: of the model that answered, and of each that was tried before and failed.

    good: None where nobody judged the answer. Nothing of models that nothing was promised of.
    """
    judgement = result.decision.judgement
    options = {option.model: option for option in judgement.options}
    found = [(attempt.model, 0.0, "escalation") for attempt in result.attempts]
    if good is not None and result.served_by.model:
        found.append((result.served_by.model, good, source))
    return [
        feedback_pb2.Feedback(
            id=result.id,
            tenant=result.tenant,
            model=model,
            good=value,
            source=why,
            heads=judgement.heads,
            quality=options[model].quality,
            raw_quality=options[model].raw_quality,
        )
        for model, value, why in found
        if model in options and judgement.heads
    ]


def version_of(heads: str, calibrations: Mapping[str, Calibration]) -> str:
    """Eight hex digits."""
    said = json.dumps([heads, {model: (line.promised, line.observed) for model, line in calibrations.items()}])
    return hashlib.sha256(said.encode()).hexdigest()[:8]


class LearnedError(Exception):
    """The file holds nothing that could be used: which, and why."""


def write(learned: Learned, path: Path) -> None:
    """In one step; what was there before stays beside it as `NAME.previous`, for `roll_back`."""
    content = {
        "heads": learned.heads,
        "calibrations": {
            model: {"promised": line.promised, "observed": line.observed}
            for model, line in learned.calibrations.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    if path.exists():
        path.replace(previous(path))
    beside.replace(path)


def previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def roll_back(path: Path) -> None:
    """What was learned before takes the place of what is there; without any, the heads' own promises hold again.

    Raises LearnedError where there is nothing to go back from.
    """
    if not path.exists():
        raise LearnedError(f"{path}: is not there: nothing was learned, so there is nothing to go back from")
    if previous(path).exists():
        previous(path).replace(path)
    else:
        path.unlink()


def read(path: Path) -> Learned:
    """Raises LearnedError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        lines = {
            str(model): Calibration(tuple(map(float, line["promised"])), tuple(map(float, line["observed"])))
            for model, line in content["calibrations"].items()
        }
        return Learned(version_of(content["heads"], lines), str(content["heads"]), lines)
    except OSError as failure:
        raise LearnedError(f"{path}: cannot be read: {failure.strerror}") from failure
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise LearnedError(f"{path}: is damaged or no file of calibrations: {failure}") from failure
