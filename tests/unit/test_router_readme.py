"""The router's README lists its settings with their defaults, its conditions and its reasons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from millpond_router import decide, options
from millpond_router.rules import SHIPPED, When, parse
from millpond_router.settings import RouterSection

README = (Path(__file__).resolve().parents[2] / "services" / "router" / "README.md").read_text("utf-8")


def defaults_of(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Those of sections within it too: "quality.min_quality"."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= defaults_of(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.default
    return found


def test_every_setting_stands_there_with_its_default() -> None:
    settings = README.split("| setting |")[1].split("## Rules")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", settings, re.MULTILINE))
    defaults = defaults_of(RouterSection)
    assert rows.keys() == defaults.keys()
    for name, default in defaults.items():
        if isinstance(default, bool):
            assert rows[name] == str(default).lower()
        elif isinstance(default, int | float):
            assert float(rows[name]) == default
        else:
            assert not default
            assert rows[name] in ("none", "those that are shipped")


def test_every_condition_and_every_reason_stands_there() -> None:
    conditions, reasons = README.split("| condition |")[1].split("## Quality")[0].split("| reason |")
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", conditions, re.MULTILINE)))
    assert sorted(named) == sorted(When.model_fields)
    for reason in (
        *(decide.OVER_CONTEXT, decide.NEAR_DEADLINE, decide.NO_EMBEDDING, decide.NO_HEADS),
        *(options.CHEAPEST, options.NONE_MEETS, options.UNSURE),
    ):
        assert f"| `{reason}` |" in reasons
    assert f"`{decide.CHOSEN_BY_REQUEST}`" in README


def test_its_example_is_a_rule() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse(yaml.safe_load(example), {"small", "frontier"}, "README.md").rules[0].code == "rule.contracts"
    assert SHIPPED.name in README
