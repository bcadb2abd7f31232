"""`./millpond recalibrate`: promised and observed quality side by side; what was learned is written and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millpond.v1 import feedback_pb2
from millpond_cli.commands.recalibrate import recalibrate
from millpond_cli.errors import CommandError
from millpond_core import json_codec
from millpond_router import head_folder, outcomes

HEADS = head_folder.read(head_folder.SHIPPED).version


def judgements(file: Path, good: dict[str, list[float]], promised: float) -> Path:
    """How good each model's answers were, where the same was promised of all."""
    lines = [
        json_codec.encode(
            feedback_pb2.Feedback(
                id=str(number), model=model, good=each, heads=HEADS, quality=promised, raw_quality=promised
            )
        )
        for model, those in good.items()
        for number, each in enumerate(those)
    ]
    file.write_bytes(b"\n".join([*lines, b"no judgement"]))
    return file


def test_what_is_no_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    source = judgements(tmp_path / "judged.jsonl", {"kept": [1] * 80}, 1.0)
    folder = tmp_path / "keep"
    folder.mkdir()
    for to in (folder, tmp_path / "none" / "calibration.json"):
        for roll_back in (False, True):
            with pytest.raises(CommandError, match="--to"):
                recalibrate(to=to, source=source, roll_back=roll_back)
    assert folder.is_dir()


def test_the_report_has_promised_and_observed_quality_of_each_model(tmp_path: Path) -> None:
    source = judgements(tmp_path / "judged.jsonl", {"kept": [1, 1, 1, 0] * 20, "worse": [1, 0] * 40}, 0.75)
    target, report = tmp_path / "calibration.json", tmp_path / "report.json"
    with pytest.raises(CommandError, match="worse: recent answers are not what is promised of them"):
        recalibrate(to=target, source=source, json_file=report)
    told = json.loads(report.read_text())
    assert told["models"]["kept"] == {"outcomes": 80, "promised": 0.75, "observed": 0.75, "drift_sd": 0}
    assert told["models"]["worse"]["observed"] == 0.5
    assert told["models"]["worse"]["drift_sd"] < -outcomes.ALARM
    assert [each["value"] for each in told["targets"]] == [0, 0.25]
    learned = outcomes.read(target)
    assert learned.calibrations["worse"].of(0.75) < learned.calibrations["kept"].of(0.75) == pytest.approx(0.75)
    recalibrate(to=target, roll_back=True)
    assert not target.exists()
