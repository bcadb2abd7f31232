"""Settings come from the environment over a file over the defaults, and what is wrong is named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD, TIER_UNSPECIFIED
from millpond_core.settings import LimitsSettings, Section, Settings, load
from millpond_core.settings_page import page
from millpond_core.validate import Limits

REPOSITORY = Path(__file__).resolve().parents[2]


URL = "must be http://host:port or https://host:port, and a path where there is one"


class SpokeSettings(Section):
    """One of a map's."""

    length: int = 1


class WheelSettings(Section):
    speed: int = Field(default=3, gt=0)
    spokes: dict[str, SpokeSettings] = Field(default={})


class WheelService(Settings):
    """As a service of its own would have them: `router` is the name of one."""

    router: WheelSettings = WheelSettings()


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MILLPOND_")]:
        monkeypatch.delenv(name)


def file(tmp_path: Path, values: Mapping[str, Any] | str) -> str:
    path = tmp_path / "millpond.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return str(path)


def problems(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `load` says of what is wrong; that it exits with status 2."""
    with pytest.raises(SystemExit) as end:
        load(WheelService, "millpond-wheel")
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_the_environment_is_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"partitions": 6, "tiers": {"realtime_s": 5, "standard_s": 50}, "router": {"speed": 9}, "drain_s": 1}
    monkeypatch.setenv("MILLPOND_CONFIG", file(tmp_path, values))
    monkeypatch.setenv("MILLPOND_PARTITIONS", "8")
    monkeypatch.setenv("MILLPOND_TIERS__STANDARD_S", "60")
    monkeypatch.setenv("MILLPOND_DRAIN_S", "")
    settings = load(WheelService, "millpond-wheel")
    assert settings.partitions == 8
    assert (settings.tiers.realtime_s, settings.tiers.standard_s) == (5, 60)
    assert settings.router.speed == 9
    assert settings.drain_s == 1
    assert settings.log_level == "info"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"MILLPOND_HTTP_PORT": "abc"}, "MILLPOND_HTTP_PORT=abc: must be a whole number"),
        ({"MILLPOND_HTTP_PORT": "70000"}, "MILLPOND_HTTP_PORT=70000: must be 65535 or less"),
        ({"MILLPOND_TIERS__REALTIME_S": "-1"}, "MILLPOND_TIERS__REALTIME_S=-1: must be more than 0.0"),
        ({"MILLPOND_TIERS__REALTIME": "1"}, "MILLPOND_TIERS__REALTIME=1: is no setting; did you mean realtime_s?"),
        ({"MILLPOND_ROUTER__SPEED": "soon"}, "MILLPOND_ROUTER__SPEED=soon: must be a whole number"),
        ({"MILLPOND_LIMITS__MAX_STOPS": "0"}, "MILLPOND_LIMITS__MAX_STOPS=0: must be more than 0"),
        ({"MILLPOND_LIMITS__MAX_STOP": "1"}, "MILLPOND_LIMITS__MAX_STOP=1: is no setting; did you mean max_stops?"),
        ({"MILLPOND_TRITON": "localhost"}, "MILLPOND_TRITON=localhost: must be host:port"),
        ({"MILLPOND_TRITON": "http://x:1"}, "MILLPOND_TRITON=http://x:1: must be host:port"),
        ({"MILLPOND_MILVUS": "127.0.0.1:1"}, f"MILLPOND_MILVUS: {URL}"),
        ({"MILLPOND_OTLP_ENDPOINT": "nonsense"}, f"MILLPOND_OTLP_ENDPOINT: {URL}"),
        ({"MILLPOND_PROVIDER_BASE_URL": "http://x:port/v1"}, f"MILLPOND_PROVIDER_BASE_URL: {URL}"),
        ({"MILLPOND_PROVIDER_BASE_URL": "http://x y/v1"}, f"MILLPOND_PROVIDER_BASE_URL: {URL}"),
        ({"MILLPOND_FOO": "1"}, "MILLPOND_FOO: is no setting; see docs/settings.md"),
        (
            {"MILLPOND_TEIRS__REALTIME_S": "5"},
            "MILLPOND_TEIRS__REALTIME_S: is no setting; did you mean MILLPOND_TIERS?",
        ),
        ({"MILLPOND_TIER__REALTIME_S": "5"}, "MILLPOND_TIER__REALTIME_S: is no setting; did you mean MILLPOND_TIERS?"),
        (
            {"MILLPOND_KAFKA": '{"nosuch.setting": "x"}'},
            'MILLPOND_KAFKA: No such configuration property: "nosuch.setting"',
        ),
        (
            {"MILLPOND_KAFKA": '{"security.protocol": "FOO"}'},
            'MILLPOND_KAFKA: Invalid value "…" for configuration property "security.protocol"',
        ),
        (
            {"MILLPOND_KAFKA": '{"session.timeout.ms": "abc"}'},
            'MILLPOND_KAFKA: Invalid value for configuration property "session.timeout.ms"',
        ),
        ({"MILLPOND_KAFKA": '{"error_cb": "x"}'}, "MILLPOND_KAFKA: expected error_cb property as a callable function"),
        ({"MILLPOND_LOG_LEVEL": "loud"}, "MILLPOND_LOG_LEVEL=loud: must be 'debug', 'info', 'warning' or 'error'"),
        ({"MILLPOND_KAFKA": "{"}, "MILLPOND_KAFKA: must be JSON"),
        ({"MILLPOND_MODELS": "[]"}, "MILLPOND_MODELS: must be one model, and one only, with role: small"),
        (
            {"MILLPOND_CONFIG": "/nowhere.yaml"},
            "MILLPOND_CONFIG=/nowhere.yaml: cannot be read: No such file or directory",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_must_be(
    variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert problems(capsys) == [f"millpond-wheel: {line}"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"partitons": 4}, "partitons=4: is no setting; did you mean partitions?"),
        ({"router": {"sped": 4}}, "router.sped=4: is no setting; did you mean speed?"),
        ({"models": [{"name": "auto"}]}, "models.0.name=auto: is what requests call a route"),
        ({"wheel": 1}, "wheel=1: is no setting; see docs/settings.md"),
        ({"router": {"spokes": {"a": {"lenght": 1}}}}, "router.spokes.a.lenght=1: is no setting; did you mean length?"),
        ({"router": {"speed": {"x": 1}}}, "router.speed: "),
        ("log_level: 2026-99-99", "is not YAML"),
        ("1: 2", "must be a map of settings"),
        ("- a\n- b\n", "must be a map of settings"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_key_of_the_file_is_named(
    values: Mapping[str, Any] | str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = file(tmp_path, values)
    monkeypatch.setenv("MILLPOND_CONFIG", path)
    assert any(said.startswith(f"millpond-wheel: {path}: {line}") for said in problems(capsys))


def test_every_problem_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MILLPOND_PARTITIONS", "many")
    monkeypatch.setenv("MILLPOND_REPLICA", "-1")
    assert len(problems(capsys)) == 2


def test_other_services_sections_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CONFIG", file(tmp_path, {"cache": {"anything": 1}, "batcher": None}))
    assert load(WheelService, "millpond-wheel") == WheelService()


def test_secrets_are_passed_on_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLPOND_KAFKA", '{"sasl.password": "hunter2", "enable.idempotence": false, "linger.ms": 5}')
    settings = load(WheelService, "millpond-wheel")
    assert "hunter2" not in f"{settings!r} {settings}"
    assert settings.kafka_client({"enable.idempotence": True}) == {
        "bootstrap.servers": settings.kafka_bootstrap,
        "sasl.password": "hunter2",
        "linger.ms": "5",
        "enable.idempotence": True,
    }
    monkeypatch.setenv("MILLPOND_KAFKA", '{"sasl.password": ["hunter2"]}')
    assert "hunter2" not in "".join(problems(capsys))
    monkeypatch.setenv("MILLPOND_KAFKA", '{"sasl.password": "hunter2"')
    assert "hunter2" not in "".join(problems(capsys))


@pytest.mark.parametrize("variable", ["MILLPOND_PROVIDER_BASE_URL", "MILLPOND_MILVUS", "MILLPOND_OTLP_ENDPOINT"])
@pytest.mark.parametrize(
    "url",
    ["http://user:hunter2@host/v1", "https://hunter2@host/v1", "https://host/v1?key=hunter2", "http://h/#hunter2"],
)
def test_an_address_that_is_shown_and_logged_has_no_secret_in_it(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, url)
    (line,) = problems(capsys)
    assert line.startswith(f"millpond-wheel: {variable}: must have no user, password or query")
    assert "hunter2" not in line


def test_an_authority_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.crt")}
    monkeypatch.setenv("MILLPOND_KAFKA", json.dumps(missing))
    (line,) = problems(capsys)
    assert line.startswith("millpond-wheel: MILLPOND_KAFKA: ")
    assert "ssl.ca.location" in line


@pytest.mark.parametrize("key", ["hunter2\n", "hunter 2", "hünter2"])
def test_a_key_that_fits_into_no_header_is_named_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLPOND_PROVIDER_API_KEY", key)
    (line,) = problems(capsys)
    assert line.startswith("millpond-wheel: MILLPOND_PROVIDER_API_KEY must be printable ASCII")
    assert "nter" not in line


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that the project speaks of, set for everyone: no service ends for another's."""
    files = [REPOSITORY / "docker-compose.yml", REPOSITORY / ".env.example"]
    files += [
        path for folder in ("core", "cli", "services", "models", "k8s") for path in (REPOSITORY / folder).rglob("*")
    ]
    texts = [path.read_text() for path in files if path.suffix in {".py", ".yaml", ".yml", ".env", ".example"}]
    spoken = {name for text in texts for name in re.findall(r"\bMILLPOND_[A-Z][A-Z_]*[A-Z]\b", text)}
    assert len(spoken) > 30
    shared = {f"MILLPOND_{name.upper()}" for name in WheelService.model_fields}
    for name in spoken - shared:
        if name.partition("__")[0] not in shared:
            monkeypatch.setenv(name, "/dev/null" if name == "MILLPOND_CONFIG" else "1")
    monkeypatch.setenv("MILLPOND_CACHE__ANYTHING", "1")
    monkeypatch.setenv("MILLPOND_MY_KEY", "1")
    large = Settings().model_of_role("frontier").model_dump(mode="json", exclude_none=True)
    small = Settings().model_of_role("small").model_dump(mode="json", exclude_none=True)
    monkeypatch.setenv("MILLPOND_MODELS", json.dumps([small, {**large, "api_key_env": "MILLPOND_MY_KEY"}]))
    load(WheelService, "millpond-wheel")


def test_a_providers_key_is_in_its_models_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Settings().model_of_role("frontier")
    assert model.api_key() is None
    monkeypatch.setenv("MILLPOND_PROVIDER_API_KEY", "hunter2")
    key = model.api_key()
    assert key is not None
    assert key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(key)


def test_the_large_model_is_a_stand_in_until_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().model_of_role("frontier").name == "stand-in-large"
    monkeypatch.setenv("MILLPOND_PROVIDER_MODEL", "large-4")
    assert Settings().model_of_role("frontier").name == "large-4"
    assert Settings().model_named("stand-in-large") is None


def test_a_provider_is_named_over_the_shipped_file_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLPOND_CONFIG", str(REPOSITORY / "config" / "millpond.yaml"))
    monkeypatch.setenv("MILLPOND_PROVIDER_MODEL", "large-4")
    settings = load(WheelService, "millpond-wheel")
    assert settings.model_of_role("frontier").name == "large-4"
    assert settings.model_named("stand-in-large") is None
    # Where every model has a name, the variable would be set for nothing.
    named = [model.model_dump(mode="json", exclude_none=True) for model in settings.models]
    monkeypatch.setenv("MILLPOND_MODELS", json.dumps([{**model, "name": f"my-{model['name']}"} for model in named]))
    assert problems(capsys) == [
        "millpond-wheel: MILLPOND_MODELS: must be one without a name, to be called large-4, as provider_model says"
    ]


def test_a_tier_that_is_not_set_is_standard() -> None:
    tiers = Settings().tiers
    assert tiers.seconds(TIER_UNSPECIFIED) == tiers.seconds(TIER_STANDARD)
    assert tiers.seconds(TIER_REALTIME) < tiers.seconds(TIER_STANDARD) < tiers.seconds(TIER_OVERNIGHT)


def test_the_limits_are_those_that_requests_are_held_to() -> None:
    limits = Settings().limits
    assert isinstance(limits, Limits)
    assert limits == LimitsSettings(**vars(Limits()))


def test_the_shipped_file_says_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    monkeypatch.setenv("MILLPOND_CONFIG", str(REPOSITORY / "config" / "millpond.yaml"))
    assert load(Settings, "millpond") == defaults


def test_the_page_of_settings_is_up_to_date() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == page(), (
        "run: python -m millpond_core.settings_page > docs/settings.md"
    )
