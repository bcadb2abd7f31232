"""docker-compose.yml and the Kubernetes files as data, for the tests that hold them to the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from millpond_core.settings import FILE_VARIABLE, PREFIX, Settings

Document = dict[str, Any]
SettingsOf = Callable[[str, Mapping[str, str]], Settings]

REPOSITORY = Path(__file__).resolve().parents[2]
KUBERNETES = REPOSITORY / "k8s"

REQUIRED = {"MILLPOND_MINIO_USER": "millpond", "MILLPOND_MINIO_PASSWORD": "not-a-secret"}
"""What a person must fill in before compose starts."""

PROFILES = ("cpu", "gpu")

LISTENS: Mapping[str, Mapping[str, int]] = {
    "kafka": {"broker": 9092},
    "milvus": {"grpc": 19530, "metrics": 9091},
    "triton": {"http": 8000, "grpc": 8001, "metrics": 8002},
    "stand-in": {"http": 8090},
    "jaeger": {"otlp": 4317, "otlp_http": 4318, "query": 16686, "query_grpc": 16685, "health": 13133},
    "router": {"http": 8080},
    "cache": {"http": 8080, "grpc": 9090},
    "batcher": {"http": 8080},
    "frontier": {"http": 8080, "grpc": 9090},
}
"""Component of the local stack → its port's name there → where the same listens in a container."""

HOSTS = {"triton": {"router": "embedder", "cache": "embedder", "batcher": "generator", "frontier": "embedder"}}
"""Triton runs once for each of its two works: component → who asks → the host it asks."""

ADDRESS = re.compile(r"(?:^|//)([a-z][a-z0-9.-]*):(\d+)")


def compose(environment: Mapping[str, str] = REQUIRED) -> Document:
    """docker-compose.yml with its variables filled in from that environment. Raises KeyError for one it requires."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match["name"], match["kind"], match["word"]
        if name is None:
            return "$"
        return environment.get(name) or (word if kind == "-" else environment[name])

    text = (REPOSITORY / "docker-compose.yml").read_text()
    return yaml.safe_load(re.sub(r"\$\$|\$\{(?P<name>\w+):(?P<kind>[-?])(?P<word>[^}]*)\}", value, text))


def of_profile(services: Mapping[str, Document], profile: str) -> dict[str, Document]:
    return {name: each for name, each in services.items() if profile in each.get("profiles", [profile])}


def loads(triton: str, image: str) -> list[str]:
    """The arguments of one of the two Tritons: the verifier stands beside the embedder, whose checkpoint it shares."""
    models = {"embedder": ["embedder", "verifier"], "generator": ["generator", "generator_urgent"]}[triton]
    if image.startswith("millpond-vllm:"):
        models = ["generator"]
    return [f"--load-model={model}" for model in models]


def component_of(service: str) -> str:
    """The local stack's component that a container of compose or Kubernetes is; its own name where there is none."""
    return "triton" if service.split("-", maxsplit=1)[0] in ("embedder", "generator") else service


def is_setting(variable: str, service: str, settings: Settings) -> bool:
    """Whether the service reads this variable: a setting, the file, or the key of a model that it calls."""
    name = variable.removeprefix(PREFIX).lower().split("__")[0]
    keys = {model.api_key_env for model in settings.models} if service == "frontier" else set[str]()
    return name in type(settings).model_fields or variable == FILE_VARIABLE or variable in keys


def listens_for_others(settings: Settings, service: str) -> bool:
    """Whether every server of the service can be reached from outside its container, where LISTENS says."""
    values = settings.model_dump()
    hosts = {value for name, value in values.items() if name.endswith("_host")}
    ports = {name.removesuffix("_port"): value for name, value in values.items() if name.endswith("_port")}
    return hosts == {"0.0.0.0"} and ports == LISTENS[service]


def kubernetes_files() -> Iterator[tuple[Path, Document]]:
    """Every object of every file under k8s/, kustomizations and patches too."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict):
                yield path, document
