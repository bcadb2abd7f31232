"""Frontier's README and the shipped configuration say what its settings are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from millpond_frontier.settings import FrontierSection

REPOSITORY = Path(__file__).resolve().parents[2]

DEFAULTS = FrontierSection().model_dump()


def test_every_setting_stands_in_the_readme_with_its_default_and_meaning() -> None:
    page = (REPOSITORY / "services" / "frontier" / "README.md").read_text("utf-8").split("| setting |")[1]
    rows = {
        name: (default, meaning)
        for name, default, meaning in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", page, re.M)
    }
    fields = FrontierSection.model_fields
    assert rows == {name: (json.dumps(field.default).strip('"'), field.description) for name, field in fields.items()}


def test_the_shipped_configuration_holds_the_defaults() -> None:
    shipped = yaml.safe_load((REPOSITORY / "config" / "millpond.yaml").read_text("utf-8"))["frontier"]
    assert shipped.items() <= DEFAULTS.items()
