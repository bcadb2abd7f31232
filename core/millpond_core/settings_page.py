"""docs/settings.md, made from the settings themselves: `python -m millpond_core.settings_page > docs/settings.md`."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from millpond_core.settings import CHATML, LimitsSettings, ModelSettings, PriceSettings, Settings
from millpond_core.validate import Limits

INTRODUCTION = """\
# Settings

Made from `core/millpond_core/settings.py` by `python -m millpond_core.settings_page > docs/settings.md`; a test holds
the two together.

Every service reads environment variables, over the YAML file that `MILLPOND_CONFIG` names, over the defaults below.
`config/millpond.yaml` is such a file, with comments. The variable `MILLPOND_TIERS__REALTIME_S` and the file's
`tiers: {realtime_s: …}` are the same setting. In a variable, lists and maps are JSON, as in
`MILLPOND_KAFKA='{"security.protocol": "SASL_SSL"}'`. An empty variable is as none.

Each service has settings of its own too, under its name, described in its README. The file may hold those of all
services; each reads its own. A wrong value, or a key that is no setting, is named at start, and the service exits
with status 2.
"""

MODELS = """\

## Models

The entries of `models`. Exactly one has the role `small` and one the role `frontier`.
"""


def page() -> str:
    lines = [INTRODUCTION, "## Shared", "", "| setting | default | meaning |", "|---|---|---|"]
    lines += _rows(Settings, "")
    lines += [MODELS, "| key | default | meaning |", "|---|---|---|"]
    lines += _rows(ModelSettings, "")
    return "\n".join(lines) + "\n"


def _rows(section: Any, prefix: str) -> Iterator[str]:
    fields: dict[str, FieldInfo] = section.__pydantic_fields__
    described = _docstrings(Limits) if section is LimitsSettings else {}
    for name, field in fields.items():
        kind = field.annotation
        if hasattr(kind, "__pydantic_fields__") and kind is not PriceSettings:
            yield from _rows(kind, f"{prefix}{name}.")
        else:
            meaning = field.description or described.get(name, "")
            yield f"| `{prefix}{name}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "see below" if field.default_factory else "required"
    if field.default is None:
        return "none"
    if field.default == CHATML:
        return "ChatML"
    return f"`{json.dumps(to_jsonable_python(field.default)).strip(chr(34))}`"


def _docstrings(section: type) -> dict[str, str]:
    """The texts under a dataclass's fields."""
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


if __name__ == "__main__":
    print(page(), end="")
