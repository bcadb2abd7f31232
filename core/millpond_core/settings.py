"""Configuration: environment variables MILLPOND_…, over the YAML file that MILLPOND_CONFIG names, over the defaults.

`MILLPOND_TIERS__REALTIME_S=10` and, in the file, `tiers: {realtime_s: 10}` say the same. Lists and maps are JSON in the
environment. The file is shared: each service reads the shared keys and its own section, and leaves others' alone.
docs/settings.md is made from the fields below by `python -m millpond_core.settings_page`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from confluent_kafka import Consumer, KafkaException
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, Tier
from millpond_core.cost import Price
from millpond_core.validate import Limits

PREFIX = "MILLPOND_"
FILE_VARIABLE = "MILLPOND_CONFIG"
SERVICES = ("router", "cache", "batcher", "frontier")
STAND_IN = "stand-in-large"
"""The large model's name where nobody has named one: a small one in its part."""

OTHERS = re.compile(
    r"home|stack|config|grpc_(host|port)|provider_api_key|(models|embedder|generator|echo|minio)_\w+|assets"
    r"|milvus_everywhere"
)
"""What follows MILLPOND_ in variables that are not every service's: the command line's, the stack's, single services',
the models' and compose's."""

RESERVED_MODELS = ("auto", "small", "frontier")
"""What a request's `model` may say besides a configured name."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _addresses(value: str) -> str:
    """One or several, separated by commas. Raises ValueError."""
    if not all(re.fullmatch(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}", each.strip()) for each in value.split(",")):
        raise ValueError("must be host:port")
    return value


def _url(value: str) -> str:
    """An address that can be shown and logged: a secret has a setting of its own. Raises ValueError."""
    form = "must be http://host:port or https://host:port, and a path where there is one"
    try:
        parts = urlsplit(value)
        has_port = parts.port != 0
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port or re.search(r"\s", value):
        raise ValueError(form)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no user, password or query: it is shown and logged; keys have their own settings")
    return value


Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
Url = Annotated[str, AfterValidator(_url)]


def _text(value: object) -> object:
    """As librdkafka wants it: YAML's `5` and `true` as "5" and "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


class Section(BaseModel):
    """A group of settings. A key that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TierSettings(Section):
    """How long after its append to ai.requests a request of each tier is due, where it names no deadline."""

    realtime_s: Seconds = Field(default=30, description="Seconds until a `realtime` request is due.")
    standard_s: Seconds = Field(default=3600, description="Seconds until a `standard` request is due.")
    overnight_s: Seconds = Field(default=12 * 3600, description="Seconds until an `overnight` request is due.")

    def seconds(self, tier: Tier) -> float:
        """A tier that is not set counts as standard."""
        if tier == TIER_REALTIME:
            return self.realtime_s
        return self.overnight_s if tier == TIER_OVERNIGHT else self.standard_s


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LimitsSettings(Limits):
    """What a request may be: the bounds of validate.Limits, as settings."""

    @field_validator("*")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError("must be more than 0")
        return value


Dollars = Annotated[Decimal, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PriceSettings(Price):
    """Dollars per million tokens, of the prompt and of the answer."""

    input: Dollars
    output: Dollars


class PricesSettings(Section):
    """One model's prices. An engine of one's own has no batch price: it is the same."""

    synchronous: PriceSettings = Field(
        description="Dollars per million tokens, `{input, output}`, of a call answered at once."
    )
    batch: PriceSettings = Field(description="The same, of a call through the provider's batch interface.")


class ModelSettings(Section):
    """One model that answers requests."""

    name: str = Field(
        min_length=1,
        max_length=256,
        description="What requests, results and prices call it. Of an `openai` model that has none: `provider_model` "
        "above.",
    )
    kind: Literal["triton", "openai"] = Field(
        description="`triton`: Triton, with its vLLM backend's tensors. `openai`: an OpenAI-compatible endpoint."
    )
    role: Literal["small", "frontier"] | None = Field(
        default=None,
        description="`small` and `frontier` mark the model that the route of that name means; one model each.",
    )
    context_tokens: int = Field(gt=0, description="Tokens of prompt and answer together.")
    price: PricesSettings = Field(description="What its tokens cost: `synchronous` and `batch`.")
    max_rows: int = Field(
        default=144, gt=0, description="Rows that it answers at the same time: the generator's and its urgent twin's."
    )
    max_batch_tokens: int = Field(
        default=80_000,
        gt=0,
        description="`triton`: tokens of these rows together, prompts and longest answers: what its cache holds.",
    )
    pads: bool = Field(
        default=False,
        description="`triton`: whether it pads the rows of a batch to the longest; then only rows of one length share "
        "one.",
    )
    triton: str | None = Field(
        default=None,
        description="`triton`: where it is served, `host:port`; several replicas separated by commas. Default: "
        "`triton` above.",
    )
    triton_model: str = Field(default="generator", description="`triton`: the model's name in Triton.")
    urgent_triton_model: str | None = Field(
        default=None,
        description="`triton`: the same model once more, in a process of its own that no bulk holds up: `realtime` "
        "requests go there while it answers.",
    )
    adapter: str | None = Field(
        default=None, description="`triton`: the LoRA adapter, by the name that the vLLM backend knows it by."
    )
    chat_template: str = Field(
        default=CHATML,
        description="`triton`: how messages become one prompt, a jinja2 template as Hugging Face has it.",
    )
    base_url: Url | None = Field(default=None, description="`openai`: the endpoint. Default: `provider_base_url`.")
    api_key_env: str = Field(
        default="MILLPOND_PROVIDER_API_KEY", description="`openai`: the environment variable that holds the key."
    )
    provider_model: str | None = Field(default=None, description="`openai`: the model's name there. Default: `name`.")
    resembles: str | None = Field(
        default=None,
        description="Of the models whose answers the router's heads have seen, the one that it is most like "
        "(services/router/millpond_router/heads/README.md). Without it, the router promises no quality for it.",
    )
    domains: tuple[str, ...] = Field(
        default=(), description="The domains that it may be chosen for, as the same page lists them. Empty: all."
    )
    answer_s: float = Field(
        default=0, ge=0, description="Seconds that an answer usually takes; it is not chosen for what is due sooner."
    )

    @field_validator("triton")
    @classmethod
    def _triton_is_addresses(cls, value: str | None) -> str | None:
        return value if value is None else _addresses(value)

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED_MODELS:
            raise ValueError(f"is what requests call a route; give the model another name than {name}")
        return name

    @model_validator(mode="after")
    def _key_fits_into_a_header(self) -> Self:
        key = self.api_key()
        if key and not re.fullmatch(r"[\x21-\x7e]+", key.get_secret_value()):
            raise ValueError(f"{self.api_key_env} must be printable ASCII without spaces or line ends")
        return self

    def api_key(self) -> SecretStr | None:
        """None when its variable is not set: an endpoint of one's own may need none."""
        value = os.environ.get(self.api_key_env)
        return SecretStr(value) if value else None


def _flat(dollars: str) -> PriceSettings:
    """The same for prompt and answer."""
    return PriceSettings(Decimal(dollars), Decimal(dollars))


def _default_models(settings: dict[str, Any]) -> list[ModelSettings]:
    """A small model of our own, and the provider's."""
    small = PricesSettings(synchronous=_flat("0.05"), batch=_flat("0.05"))
    large = PricesSettings(synchronous=_flat("10"), batch=_flat("1"))
    return [
        ModelSettings(
            name="smollm2-135m",
            kind="triton",
            role="small",
            urgent_triton_model="generator_urgent",
            context_tokens=2048,
            price=small,
            resembles="llama3-chatqa-1.5-8b",
        ),
        ModelSettings(
            name=settings["provider_model"],
            kind="openai",
            role="frontier",
            context_tokens=4096,
            price=large,
            resembles="gpt-4-1106-preview",
        ),
    ]


class Settings(BaseSettings):
    """What all services share. A service adds its own section: `router: RouterSettings = RouterSettings()`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    kafka_bootstrap: str = Field(
        default="127.0.0.1:19092", description="Kafka: `host:port`, several separated by commas."
    )
    kafka: dict[str, Annotated[SecretStr, BeforeValidator(_text)]] = Field(
        default={}, description="Any setting of librdkafka, for every client: TLS, SASL. Never printed."
    )
    partitions: int = Field(
        default=4, gt=0, description="Partitions of every topic; checked at start, not changed later."
    )
    replication: int = Field(default=1, gt=0, description="Replicas of every topic that is created.")
    tenants_by_topic: dict[str, str] = Field(
        default={}, description="Topics whose requests belong to one tenant, whatever their body says."
    )
    triton: str = Field(default="127.0.0.1:8001", description="Triton's gRPC address, `host:port`.")
    milvus: Url = Field(default="http://127.0.0.1:19530", description="Milvus's address.")
    cache_grpc: Annotated[str, AfterValidator(_addresses)] = Field(
        default="127.0.0.1:19130",
        description="The cache's gRPC address, `host:port`: whoever is about to ask a model asks it first.",
    )
    provider_base_url: Url = Field(
        default="http://127.0.0.1:8090/v1", description="The OpenAI-compatible endpoint of models that name none."
    )
    provider_model: str = Field(
        default=STAND_IN,
        min_length=1,
        description="The model there, of an entry of `models` without a name, as the default's large one is. The "
        "default stands in for a large model, and its name says so.",
    )
    models: list[ModelSettings] = Field(
        default_factory=_default_models,
        description="The models that answer; see below. Prices are configuration: put your own.",
    )
    tiers: TierSettings = Field(default=TierSettings(), description="When a request without a deadline is due.")
    limits: LimitsSettings = Field(default=LimitsSettings(), description="What a request may be.")
    otlp_endpoint: Url | None = Field(
        default=None,
        description="Where traces go: an OTLP/gRPC endpoint, `http://host:4317`. The OTEL_* variables hold too.",
    )
    traces_file: Path | None = Field(
        default=None, description="Without an endpoint: a file for the spans, as JSON lines."
    )
    http_host: str = Field(default="127.0.0.1", description="Where /healthz, /readyz and /metrics listen.")
    http_port: Port = Field(default=0, description="Their port; 0 takes a free one. Each service has its own default.")
    replica: int = Field(
        default=0, ge=0, description="Which replica of the service this is, from 0; no two that run may have the same."
    )
    state_dir: Path = Field(
        default=Path(".millpond/state"), description="Local files that can be made again from Kafka."
    )
    drain_s: float = Field(
        default=20, ge=0, description="Seconds that a service has to finish what it holds when told to stop."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")

    @field_validator("kafka_bootstrap", "triton")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        return _addresses(value)

    @field_validator("models", mode="before")
    @classmethod
    def _named_by_provider_model(cls, models: Any, info: ValidationInfo) -> Any:
        if not isinstance(models, list):
            return models
        name = info.data.get("provider_model", STAND_IN)
        return [{"name": name, **model} if _is_nameless(model) else model for model in models]

    @field_validator("models")
    @classmethod
    def _roles_are_filled(cls, models: list[ModelSettings], info: ValidationInfo) -> list[ModelSettings]:
        names = [model.name for model in models]
        wanted = info.data.get("provider_model", STAND_IN)
        if wanted != STAND_IN and wanted not in names:
            raise ValueError(f"must be one without a name, to be called {wanted}, as provider_model says")
        if len(set(names)) < len(names):
            raise ValueError("must have different names")
        for role in ("small", "frontier"):
            if [model.role for model in models].count(role) != 1:
                raise ValueError(f"must be one model, and one only, with role: {role}")
        return models

    def kafka_client(self, own: Mapping[str, str | int | float | bool]) -> dict[str, Any]:
        """Settings of one librdkafka client. own: what the caller's correctness rests on; nothing overrides it."""
        passed = {key: value.get_secret_value() for key, value in self.kafka.items()}
        return {"bootstrap.servers": self.kafka_bootstrap, **passed, **own}

    def model_named(self, name: str) -> ModelSettings | None:
        return next((model for model in self.models if model.name == name), None)

    def model_of_role(self, role: Literal["small", "frontier"]) -> ModelSettings:
        return next(model for model in self.models if model.role == role)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, _from_file(settings_cls))


def _is_nameless(model: Any) -> bool:
    return isinstance(model, dict) and "name" not in model and model.get("kind") == "openai"


S = TypeVar("S", bound=Settings)

WORDS = {
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "decimal_parsing": "must be a number",
    "decimal_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "value_error": "{error}",
}
"""What pydantic's kinds of error say to a person."""


def load(settings_class: type[S], service: str) -> S:
    """The settings, or exit status 2 with one line on stderr for each problem: which variable or key, and what to do.

    service: what the lines begin with, "millpond-router".
    """
    try:
        settings = settings_class()
        problems = [*_unknown_variables(settings), *_refused_by_kafka(settings)]
        if not problems:
            return settings
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
        # A default that is made of other settings fails with them, and says nothing more.
        told = [error for error in errors if error["type"] != "default_factory_not_called"]
        problems = [_problem(error, settings_class) for error in told]
    except SettingsError as failure:
        name = re.search(r'field "(\w+)"', str(failure))
        problems = [f"{PREFIX}{name[1].upper()}: must be JSON" if name else str(failure)]
    except _WrongFile as failure:
        problems = [str(failure)]
    for problem in problems:
        print(f"{service}: {problem}", file=sys.stderr)
    raise SystemExit(2)


class WrongSetting(Exception):
    """A value that shows to be wrong only when it is used. The message names its variable and what to do."""


def _unknown_variables(settings: Settings) -> list[str]:
    """Those of the environment that nobody reads: a setting that was misspelt is not taken."""
    known = [*type(settings).model_fields, *SERVICES]
    keys = {model.api_key_env for model in settings.models}
    problems: list[str] = []
    for name, value in os.environ.items():
        word = name.upper().removeprefix(PREFIX).lower().partition("__")[0]
        if not value or not name.upper().startswith(PREFIX) or name in keys or word in known or OTHERS.fullmatch(word):
            continue
        close = difflib.get_close_matches(word, known, 1)
        hint = f"did you mean {PREFIX}{close[0].upper()}?" if close else "see docs/settings.md"
        problems.append(f"{name}: is no setting; {hint}")
    return problems


def _refused_by_kafka(settings: Settings) -> list[str]:
    """What librdkafka says to the settings of `kafka`, without a connection."""
    if not settings.kafka:
        return []
    try:
        # It wants a group's name, and would reach for the brokers if it knew them.
        given = settings.kafka_client({"group.id": PREFIX, "log_level": 0})
        del given["bootstrap.servers"]
        Consumer(given).close()
    except KafkaException as failure:
        return [f"{PREFIX}KAFKA: {_without_values(failure.args[0].str(), settings)}"]
    except (TypeError, ValueError, AttributeError) as failure:
        return [f"{PREFIX}KAFKA: {_without_values(str(failure), settings)}"]
    return []


def _without_values(message: str, settings: Settings) -> str:
    for value in settings.kafka.values():
        message = message.replace(f'"{value.get_secret_value()}"', '"…"')
    return message


class _WrongFile(Exception):
    """The message names the file and what is wrong with it."""


def _from_file(settings_class: type[BaseSettings]) -> dict[str, Any]:
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    try:
        values = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as failure:
        raise _WrongFile(f"{FILE_VARIABLE}={path}: cannot be read: {failure.strerror}") from failure
    except UnicodeDecodeError as failure:
        raise _WrongFile(f"{path}: is not UTF-8: {failure}") from failure
    except (yaml.YAMLError, ValueError) as failure:
        raise _WrongFile(f"{path}: is not YAML: {' '.join(str(failure).split())}") from failure
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise _WrongFile(f"{path}: must be a map of settings")
    if not all(isinstance(key, str) for key in values):
        raise _WrongFile(f"{path}: must be a map of settings, by their names")
    others = set(SERVICES) - set(settings_class.model_fields)
    return {key: value for key, value in values.items() if key not in others}


def _problem(error: ErrorDetails, settings_class: type[Settings]) -> str:
    """ "MILLPOND_HTTP_PORT=abc: must be a whole number" """
    location = error["loc"]
    shown = (
        "" if _is_secret(location) or not isinstance(error["input"], str | int | float) else f"={error['input']!s:.80}"
    )
    what = _what(error, settings_class)
    # A default that is wrong by another variable stands nowhere, and its message names that.
    return f"{_where(location)}{shown}: {what}" if location else what


def _where(location: tuple[int | str, ...]) -> str:
    """The variable that holds the value, with the path inside it; else the file and the path inside that."""
    set_here = {name.upper() for name in os.environ}
    for length in range(len(location), 0, -1):
        variable = PREFIX + "__".join(str(part) for part in location[:length]).upper()
        if variable in set_here:
            return ".".join([variable, *map(str, location[length:])])
    path = ".".join(map(str, location))
    file = os.environ.get(FILE_VARIABLE)
    return f"{file}: {path}" if file else path


def _is_secret(location: tuple[int | str, ...]) -> bool:
    return any(
        re.search("kafka$|key|secret|password|token|url$|endpoint$|milvus$", str(part), re.IGNORECASE)
        for part in location
    )


def _what(error: ErrorDetails, settings_class: type[Settings]) -> str:
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        close = difflib.get_close_matches(str(error["loc"][-1]), _keys_at(settings_class, error["loc"][:-1]), 1)
        return f"is no setting; did you mean {close[0]}?" if close else "is no setting; see docs/settings.md"
    words = WORDS.get(error["type"])
    return words.format(**error.get("ctx", {})) if words else error["msg"].replace("Input should be", "must be")


def _keys_at(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """The settings of the section that the location leads to."""
    for part in location:
        if (fields := getattr(section, "__pydantic_fields__", None)) is not None:
            section = fields[part].annotation if part in fields else None
        else:
            # An item of a list, or one of a map's values.
            section = (get_args(section) or (None,))[-1]
    return list(getattr(section, "__pydantic_fields__", ()))
