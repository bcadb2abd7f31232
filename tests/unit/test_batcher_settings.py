"""The batcher's settings: what the page says of them, and what is refused at start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from millpond_batcher.settings import BatcherSection, BatcherSettings

README = Path(__file__).resolve().parents[2] / "services" / "batcher" / "README.md"


def test_the_readme_has_each_setting_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+) \|$", README.read_text(), re.MULTILINE)
    fields = BatcherSection.model_fields
    assert [(name, meaning) for name, _, meaning in rows] == [(name, each.description) for name, each in fields.items()]
    assert (
        BatcherSection.model_validate({name: yaml.safe_load(default) for name, default, _ in rows}) == BatcherSection()
    )


def test_a_template_that_does_not_compile_is_named_at_start() -> None:
    models = [model.model_dump() for model in BatcherSettings().models]
    broken = [{**model, "chat_template": "{% if %}"} for model in models]
    with pytest.raises(ValidationError, match="chat_template of smollm2-135m: line 1"):
        BatcherSettings.model_validate({"models": broken})


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"off_peak": ["22-6"]}, "22:00-06:00"),
        ({"off_peak": ["22:00Z-06:00Z"]}, "time_zone says whose"),
        ({"time_zone": "Berlin"}, "Europe/Berlin"),
        ({"time_zone": "Europe"}, "Europe/Berlin"),
    ],
)
def test_hours_that_are_none_are_named_at_start(own: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BatcherSettings.model_validate({"batcher": own})


@pytest.mark.parametrize("reference", ["#/nope", "#nope", "https://example.com/schema.json"])
def test_a_schema_that_refers_to_what_is_not_in_it_is_named_at_start(reference: str) -> None:
    checks = {"form": {"json_schema": {"allOf": [{"$ref": reference}]}}}
    with pytest.raises(ValidationError, match="leads nowhere"):
        BatcherSettings.model_validate({"batcher": {"checks": checks}})


def test_a_schema_may_refer_to_its_own_parts() -> None:
    parts = {"year": {"$ref": "#/$defs/year"}, "within": {"$ref": "#"}}
    schema = {"$defs": {"year": {"type": "integer"}}, "properties": parts}
    BatcherSettings.model_validate({"batcher": {"checks": {"form": {"json_schema": schema}}}})


@pytest.mark.parametrize("reserved", [144, 200])
def test_places_that_are_all_for_realtime_are_named_at_start(reserved: int) -> None:
    with pytest.raises(ValidationError, match=f"reserved_rows: {reserved} of the 144 rows of smollm2-135m"):
        BatcherSettings.model_validate({"batcher": {"reserved_rows": reserved}})
    BatcherSettings.model_validate({"batcher": {"reserved_rows": 143}})
