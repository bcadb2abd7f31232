"""docker-compose.yml can't be started here, so it is held to what runs: the local stack's description, the services'
settings, and the files that it mounts.

The laws are read off the plain file; docker compose's own loader must accept it too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from manifests import (
    ADDRESS,
    HOSTS,
    LISTENS,
    PROFILES,
    REPOSITORY,
    REQUIRED,
    Document,
    SettingsOf,
    component_of,
    compose,
    is_setting,
    listens_for_others,
    loads,
    of_profile,
)
from millpond_cli.stack import kafka_server
from millpond_cli.stack.components import COMPONENTS, DEFAULT_PORT_BASE, JAEGER, KAFKA, SPAN
from millpond_cli.stack.description import Answers, Finishes, SpeaksKafka, fill
from millpond_core.service import GRACE_S
from millpond_core.settings import FILE_VARIABLE, PREFIX, SERVICES, Settings

SERVICES_HERE: dict[str, Document] = compose()["services"]

BY_NAME = {component.name: component for component in COMPONENTS}

OUTSIDE = {"etcd": 2379, "minio": 9000, "prometheus": 9090}
"""What the local stack does not have: its Milvus brings the first two along."""


def names_of(service: str, definition: Document) -> set[str]:
    """Under which other containers find it."""
    networks = definition.get("networks", {})
    aliases = networks.get("default", {}).get("aliases", []) if isinstance(networks, dict) else []
    return {service, *aliases}


def networks_of(definition: Document) -> set[str]:
    return set(definition.get("networks") or ["default"])


def environment_of(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES_HERE[service].get("environment", {}).items()}


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration[:-1])


def published() -> list[tuple[str, str, int, int]]:
    """(service, host, port there, port in the container) of every published port."""
    ports = [
        (name, *str(port).rsplit(":", 2)) for name, each in SERVICES_HERE.items() for port in each.get("ports", [])
    ]
    return [(name, host, int(outer), int(inner)) for name, host, outer, inner in ports]


@pytest.mark.parametrize("profile", PROFILES)
def test_docker_composes_own_loader_accepts_it(manifest_tools: Path, profile: str) -> None:
    command = [str(manifest_tools / "compose"), "docker-compose.yml"]
    environment = {"PATH": os.environ["PATH"], **REQUIRED, "COMPOSE_PROFILES": profile}
    finished = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    project: dict[str, Any] = json.loads(finished.stdout)
    assert set(project["services"]) == set(of_profile(SERVICES_HERE, profile))
    for name, service in project["services"].items():
        assert service.get("environment", {}) == environment_of(name), name


def test_without_the_object_stores_credentials_it_says_what_to_do(manifest_tools: Path) -> None:
    command = [str(manifest_tools / "compose"), "docker-compose.yml"]
    environment = {"PATH": os.environ["PATH"]}
    finished = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert all(name in finished.stderr for name in (*REQUIRED, ".env.example"))


def test_the_example_of_env_names_every_variable() -> None:
    used = set(re.findall(r"\$\{(\w+)", (REPOSITORY / "docker-compose.yml").read_text()))
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    named = {line.split("=")[0]: line.split("=")[1] for line in lines if line and not line.startswith("#")}
    assert set(named) == used | {"COMPOSE_PROFILES"}
    assert named["COMPOSE_PROFILES"] in PROFILES
    assert all(not value for name, value in named.items() if re.search("PASSWORD|KEY|TOKEN", name))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_component_of_the_local_stack_is_there(profile: str) -> None:
    here = {component_of(name) for name in of_profile(SERVICES_HERE, profile)}
    assert here == {*BY_NAME, *OUTSIDE}


def test_ports_are_published_to_this_machine_alone_and_as_the_local_stack_has_them() -> None:
    assert published()
    for service, host, outer, inner in published():
        assert host == "127.0.0.1"
        if service in OUTSIDE:
            taken = {offset for component in COMPONENTS for offset in component.ports.values()}
            assert outer - DEFAULT_PORT_BASE in set(range(SPAN)) - taken
            assert inner == OUTSIDE[service]
            continue
        component = BY_NAME[component_of(service)]
        (name,) = (n for n, offset in component.ports.items() if DEFAULT_PORT_BASE + offset == outer)
        # Kafka tells its clients where it is, so for this machine's it needs a listener of its own.
        assert inner == (outer if service == "kafka" else LISTENS[component.name][name])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_what_the_local_stack_tells_it(service: str, settings_of: SettingsOf) -> None:
    told = environment_of(service)
    settings = settings_of(service, {**told, FILE_VARIABLE: str(REPOSITORY / "config" / "millpond.yaml")})
    ports = {f"{name}.{port}": f"{{{name}.{port}}}" for name, component in BY_NAME.items() for port in component.ports}
    own = {f"own.{port}": str(number) for port, number in LISTENS[service].items()}
    free = {"state": "", "replica": "0", "config": "", "provider_url": "", "provider_key": "", "traces_file": ""}
    for variable, template in BY_NAME[service].environment.items():
        if variable == "MILLPOND_TRACES_FILE":  # There is a collector.
            assert variable not in told
        elif not is_setting(variable, service, settings):
            assert variable not in told, f"{variable} is no setting of {service}"
        else:
            expected = fill(template, {**ports, **own, **free, "otlp": "http://127.0.0.1:{jaeger.otlp}"})
            expected = re.sub(r"127\.0\.0\.1:\{([\w-]+)\.(\w+)\}", lambda m: address(m[1], m[2], service), expected)
            assert told[variable] == expected or not expected, variable


def address(component: str, port: str, asking: str) -> str:
    host = HOSTS.get(component, {}).get(asking, component)
    return f"{host}:{LISTENS[component][port]}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_of_a_service_is_a_setting_of_it(service: str, settings_of: SettingsOf) -> None:
    told = environment_of(service)
    settings = settings_of(service, {**told, FILE_VARIABLE: str(REPOSITORY / "config" / "millpond.yaml")})
    assert [name for name in told if not is_setting(name, service, settings)] == []
    assert listens_for_others(settings, service)
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES_HERE[service]["volumes"]}
    file = Path(told[FILE_VARIABLE])
    assert (REPOSITORY / mounted[str(file.parent)] / file.name).is_file()
    assert str(settings.state_dir) in {*mounted, *SERVICES_HERE[service]["tmpfs"]}, "it could not write its state"
    assert seconds(SERVICES_HERE[service]["stop_grace_period"]) > settings.drain_s + GRACE_S


def test_only_the_frontier_holds_the_providers_key() -> None:
    holders = [name for name in SERVICES_HERE if "MILLPOND_PROVIDER_API_KEY" in environment_of(name)]
    assert holders == ["frontier"]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_address_is_the_name_of_one_container_that_listens_there(profile: str) -> None:
    services = of_profile(SERVICES_HERE, profile)
    for asking, definition in services.items():
        for variable, value in environment_of(asking).items():
            for host, port in ADDRESS.findall(value):
                (found,) = (name for name, each in services.items() if host in names_of(name, each))
                listens = LISTENS.get(component_of(found), {"": OUTSIDE.get(found)})
                assert int(port) in listens.values(), f"{asking}: {variable}={value}"
                assert networks_of(definition) & networks_of(services[found]), f"{asking} does not reach {found}"


def test_health_is_what_the_local_stack_waits_for() -> None:
    for service, definition in SERVICES_HERE.items():
        if service in OUTSIDE:
            continue
        component, check = BY_NAME[component_of(service)], definition["healthcheck"]
        match component.ready:
            case Answers(port, path):
                assert f"http://127.0.0.1:{LISTENS[component.name][port]}{path}" in check["test"][-1]
            case SpeaksKafka():
                assert check["test"][1].endswith("kafka-broker-api-versions.sh")
            case Finishes():
                assert check == {"disable": True}
                assert definition["restart"] == "no"
                continue
        assert seconds(check["start_period"]) == component.ready_s, service
        assert seconds(check["timeout"]) < seconds(check["interval"])
        assert seconds(definition.get("stop_grace_period", "10s")) >= component.stop_s, service


def test_what_starts_after_what_is_as_in_the_local_stack() -> None:
    for service, definition in SERVICES_HERE.items():
        waits = {name: how["condition"] for name, how in definition.get("depends_on", {}).items()}
        if service not in OUTSIDE and service != "milvus":
            assert tuple(waits) == tuple(BY_NAME[component_of(service)].needs)
        for other, condition in waits.items():
            ends = other in BY_NAME and isinstance(BY_NAME[other].ready, Finishes)
            assert condition == ("service_completed_successfully" if ends else "service_healthy")
            assert ends or SERVICES_HERE[other]["healthcheck"]["test"]
            assert "profiles" not in SERVICES_HERE[other], "what is waited for must be there in every profile"


def test_nothing_in_a_container_can_do_more_than_it_must() -> None:
    for service, definition in SERVICES_HERE.items():
        assert definition["read_only"] is True, service
        assert definition["cap_drop"] == ["ALL"], service
        assert definition["security_opt"] == ["no-new-privileges:true"], service
        assert definition["mem_limit"], service
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "user", "devices"} & set(definition), service
        for volume in definition.get("volumes", []):
            source, _, mode = volume.partition(":")
            if source.startswith("."):
                assert mode.endswith(":ro"), volume
                assert (REPOSITORY / source).is_dir(), volume
            else:
                assert source in compose()["volumes"], volume


def test_what_milvus_stores_is_out_of_reach_of_all_others() -> None:
    assert compose()["networks"]["storage"] == {"internal": True}
    members = {name for name, each in SERVICES_HERE.items() if "storage" in networks_of(each)}
    assert members == {"etcd", "minio", "milvus"}
    assert all(networks_of(SERVICES_HERE[name]) == {"storage"} for name in ("etcd", "minio"))


def test_no_secret_stands_in_the_file() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    for name, value in re.findall(r"^\s+(\w*(?:PASSWORD|SECRET|API_KEY|TOKEN|KEY_ID)\w*): (.+)$", text, re.MULTILINE):
        assert re.search(r"\$\{\w+:[-?]|^\*", value), f"{name} is written out"


def test_kafka_runs_with_the_local_stacks_settings_and_release() -> None:
    kafka = SERVICES_HERE["kafka"]
    script: str = kafka["command"][-1]
    assert "./stack/kafka:/settings:ro" in kafka["volumes"]
    assert "cat /settings/server.properties" in script
    assert environment_of("kafka")["KAFKA_HEAP_OPTS"] == " ".join(kafka_server.HEAP)
    added = dict(line.split("=", 1) for line in script.split("END")[1].splitlines() if "=" in line)
    names = {line.split("=")[0] for line in kafka_server.settings("", Path("logs"), 1, 2).splitlines()}
    assert set(added) == names | {"listener.security.protocol.map"}
    outer = DEFAULT_PORT_BASE + KAFKA.ports["broker"]
    inner = LISTENS["kafka"]["broker"]
    assert added["advertised.listeners"] == f"BROKER://kafka:{inner},HOST://127.0.0.1:{outer}"
    assert added["listeners"].startswith(f"BROKER://:{inner},HOST://:{outer},")
    pom = ElementTree.parse(REPOSITORY / "stack" / "kafka" / "pom.xml")
    versions = {each.text for each in pom.iter("{http://maven.apache.org/POM/4.0.0}version")}
    assert kafka["image"].split(":")[1] in versions


def test_jaeger_runs_with_the_local_stacks_settings_and_release() -> None:
    told = environment_of("jaeger")
    assert "./stack/jaeger:/settings:ro" in SERVICES_HERE["jaeger"]["volumes"]
    assert set(told) == set(JAEGER.environment)
    assert told["GOMEMLIMIT"] == JAEGER.environment["GOMEMLIMIT"]
    for variable, template in JAEGER.environment.items():
        if port := re.fullmatch(r"127\.0\.0\.1:\{own\.(\w+)\}", template):
            assert told[variable].endswith(f":{LISTENS['jaeger'][port[1]]}"), variable
    module = re.search(
        r"github.com/jaegertracing/jaeger v1\.(\d+)\.0", (REPOSITORY / "stack/jaeger/go.mod").read_text()
    )
    # Release 2.N of the image is 1.(N + 63) of the module.
    assert module
    assert SERVICES_HERE["jaeger"]["image"] == f"jaegertracing/jaeger:2.{int(module[1]) - 63}.0"


def test_the_two_profiles_differ_in_the_models_engines_alone() -> None:
    cpu, gpu = (of_profile(SERVICES_HERE, profile) for profile in PROFILES)
    assert set(cpu) ^ set(gpu) == {"embedder", "generator", "embedder-gpu", "generator-gpu"}
    for name in ("embedder", "generator"):
        assert names_of(f"{name}-gpu", gpu[f"{name}-gpu"]) == {name, f"{name}-gpu"}
        for service in (cpu[name], gpu[f"{name}-gpu"]):
            assert service["command"] == loads(name, service["image"])
        (device,) = gpu[f"{name}-gpu"]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
    assert gpu["generator-gpu"]["image"].startswith("millpond-vllm:")
    assert gpu["embedder-gpu"]["image"] == cpu["embedder"]["image"]


def test_topics_are_made_where_the_services_look_for_them() -> None:
    topics = environment_of("topics")
    settings = Settings.model_validate({"kafka_bootstrap": topics["MILLPOND_KAFKA_BOOTSTRAP"]})
    assert SERVICES_HERE["topics"]["entrypoint"][-1] == "millpond_core.topic_admin"
    for service in SERVICES:
        told = environment_of(service)
        assert told["MILLPOND_KAFKA_BOOTSTRAP"] == settings.kafka_bootstrap
        # How many partitions there must be is in the file.
        assert told[FILE_VARIABLE] == topics[FILE_VARIABLE]
        assert not {f"{PREFIX}PARTITIONS", f"{PREFIX}REPLICATION"} & set(told)
