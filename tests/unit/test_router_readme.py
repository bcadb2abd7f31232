"""The router's README lists its settings with their defaults, its conditions and its reasons."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from millpond_router import decide
from millpond_router.rules import SHIPPED, When, parse
from millpond_router.settings import RouterSection

README = (Path(__file__).resolve().parents[2] / "services" / "router" / "README.md").read_text("utf-8")


def test_every_setting_stands_there_with_its_default() -> None:
    settings = README.split("| setting |")[1].split("## Rules")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", settings, re.MULTILINE))
    defaults = {name: field.default for name, field in RouterSection.model_fields.items()}
    assert rows.keys() == defaults.keys()
    assert {name: yaml.safe_load(rows[name]) for name in defaults if name != "rules"} == {
        name: default for name, default in defaults.items() if name != "rules"
    }


def test_every_condition_and_every_reason_stands_there() -> None:
    conditions, reasons = README.split("| condition |")[1].split("| reason |")
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", conditions, re.MULTILINE)))
    assert sorted(named) == sorted(When.model_fields)
    for reason in (decide.OVER_CONTEXT, decide.NEAR_DEADLINE, decide.NO_EMBEDDING):
        assert f"| `{reason}` |" in reasons
    assert f"`{decide.CHOSEN_BY_REQUEST}`" in README


def test_its_example_is_a_rule() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse(yaml.safe_load(example), {"small", "frontier"}, "README.md").rules[0].code == "rule.contracts"
    assert SHIPPED.name in README
