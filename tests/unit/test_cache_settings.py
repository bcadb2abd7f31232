"""The cache's README says what its settings and its reasons are."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from millpond_cache.settings import CacheSettings

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "services" / "cache" / "README.md").read_text("utf-8")


def test_the_readme_has_each_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.+) \|$", PAGE.split("| setting |")[1], re.MULTILINE)
    assert [name for name, _, _ in rows] == list(CacheSettings.model_fields)
    assert CacheSettings.model_validate({name: yaml.safe_load(default) for name, default, _ in rows}) == CacheSettings()


def test_the_readme_has_each_reason() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "services" / "cache" / "millpond_cache").glob("*.py"))
    reasons = set(re.findall(r'"(cache\.(?!miss\.\{)[a-z_.]+)"', code)) - {"cache.grpc"}
    assert reasons
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()
