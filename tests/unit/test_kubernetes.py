"""k8s/ can't be applied here, so it is held to Kubernetes' schemas and, as rendered, to the services' settings, to the
topics and to itself: what a pod is told to reach, it can reach.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from manifests import (
    ADDRESS,
    HOSTS,
    KUBERNETES,
    LISTENS,
    REPOSITORY,
    Document,
    SettingsOf,
    component_of,
    compose,
    is_setting,
    kubernetes_files,
    listens_for_others,
    loads,
)
from millpond_cli.stack.components import TRITON
from millpond_core.service import GRACE_S
from millpond_core.settings import FILE_VARIABLE, PREFIX, SERVICES, Settings

OVERLAYS = ("dev", "production")

VERSIONS = ("1.32", kubernetes_validate.latest_version())
"""The first in which a pod's index is a label for good, and the last whose schemas are installed."""

TRITONS = ("embedder", "generator")

Rendered = Callable[[str], list[Document]]


@pytest.fixture(scope="session")
def rendered(manifest_tools: Path) -> Rendered:
    """overlay → its objects, rendered once."""
    done: dict[str, list[Document]] = {}

    def render(overlay: str) -> list[Document]:
        if overlay not in done:
            command = [str(manifest_tools / "kustomize"), "build", str(KUBERNETES / "overlays" / overlay)]
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            assert finished.returncode == 0, finished.stderr
            done[overlay] = list(yaml.safe_load_all(finished.stdout))
        return done[overlay]

    return render


def kinds(objects: list[Document], *wanted: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in wanted}


def pods(objects: list[Document]) -> dict[str, Document]:
    """Workload → its pod's spec and metadata."""
    return {name: each["spec"]["template"] for name, each in kinds(objects, "StatefulSet", "Deployment", "Job").items()}


def ours(objects: list[Document]) -> dict[str, Document]:
    """Those pods that Millpond consists of; the dev overlay brings others along."""
    return {
        name: pod
        for name, pod in pods(objects).items()
        if pod["metadata"]["labels"].get("app.kubernetes.io/part-of") == "millpond"
    }


def container_of(pod: Document) -> Document:
    (container,) = pod["spec"]["containers"]
    return container


def environment_of(objects: list[Document], pod: Document) -> dict[str, str]:
    """What its container is told. What comes out of a Secret or a label is "0": a key and a number alike."""
    container = container_of(pod)
    configs = kinds(objects, "ConfigMap")
    told: dict[str, str] = {}
    for each in container.get("envFrom", []):
        told |= configs[each["configMapRef"]["name"]]["data"]
    return told | {each["name"]: str(each.get("value", "0")) for each in container.get("env", [])}


def settings_environment(objects: list[Document], pod: Document, folder: Path) -> dict[str, str]:
    """The same, with files where this machine can read them, and Kafka's settings as docs/deploy.md has them."""
    told = environment_of(objects, pod)
    if FILE_VARIABLE in told:
        configs = kinds(objects, "ConfigMap")
        mounts = {each["name"]: each["mountPath"] for each in container_of(pod)["volumeMounts"]}
        (volume,) = (
            v for v in pod["spec"]["volumes"] if mounts.get(v["name"]) == str(Path(told[FILE_VARIABLE]).parent)
        )
        file = folder / "millpond.yaml"
        file.write_text(configs[volume["configMap"]["name"]]["data"][Path(told[FILE_VARIABLE]).name])
        told[FILE_VARIABLE] = str(file)
    if f"{PREFIX}KAFKA" in told:
        told[f"{PREFIX}KAFKA"] = '{"security.protocol": "SASL_SSL", "ssl.ca.location": "/etc/kafka/ca.crt"}'
    return told


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Kubernetes' label selector, as far as these files use it: equality and In."""
    assert all(each["operator"] == "In" for each in selector.get("matchExpressions", []))
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def allows(
    objects: list[Document], direction: str, labels: Mapping[str, str], other: Mapping[str, str], port: int
) -> bool:
    """Whether a policy lets the pod with these labels speak with the other (in the same namespace) at that port.

    direction: egress, out of the pod; ingress, into it. A pod that no policy selects may do everything.
    """
    chosen = [
        policy["spec"]
        for policy in kinds(objects, "NetworkPolicy").values()
        if direction.title() in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], labels)
    ]
    side = "to" if direction == "egress" else "from"
    rules: list[Document] = [rule for policy in chosen for rule in policy.get(direction, [])]
    return not chosen or any(
        port in {each["port"] for each in rule["ports"]}
        and (side not in rule or any(selects(peer.get("podSelector", {}), other) for peer in rule[side]))
        for rule in rules
    )


def test_every_file_is_valid_by_itself() -> None:
    """Without patches, which are parts of objects, and what is not Kubernetes'."""
    whole = [
        document
        for path, document in kubernetes_files()
        if "apiVersion" in document and path.name != "kustomization.yaml" and not path.name.endswith("-patch.yaml")
    ]
    assert len(whole) > len(SERVICES)
    for document in whole:
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_no_file_is_forgotten() -> None:
    kustomizations = {path: document for path, document in kubernetes_files() if path.name == "kustomization.yaml"}
    named = {
        path.with_name(name)
        for path, document in kustomizations.items()
        for name in re.findall(r"[\w-]+\.(?:yaml|env)", yaml.safe_dump(document))
    }
    assert {path for path in KUBERNETES.rglob("*.*") if path.is_file()} == named | set(kustomizations)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_rendered_is_valid(rendered: Rendered, overlay: str, version: str) -> None:
    for each in rendered(overlay):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_of_millpond_is_there(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    assert set(ours(objects)) == {*SERVICES, *TRITONS, "topics"}
    named = {*SERVICES, "generator"}
    assert set(kinds(objects, "StatefulSet")) & {*SERVICES, *TRITONS} == named, "each replica needs a name of its own"
    assert len({each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"}) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_can_do_more_than_it_must(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    (namespace,) = kinds(objects, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(objects).items():
        spec, container = pod["spec"], container_of(pod)
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"], name
        assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_services_probes_are_its_pages(rendered: Rendered, overlay: str) -> None:
    for service in SERVICES:
        container = container_of(pods(rendered(overlay))[service])
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports == LISTENS[service]
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {"http"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tritons_probes_wait_as_long_as_the_local_stack(rendered: Rendered, overlay: str) -> None:
    for name in TRITONS:
        container = container_of(pods(rendered(overlay))[name])
        assert {each["name"]: each["containerPort"] for each in container["ports"]} == LISTENS["triton"]
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= TRITON.ready_s
        for kind in ("startup", "liveness", "readiness"):
            assert container[f"{kind}Probe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
        assert container["args"] == loads(name, container["image"])
        assert pods(rendered(overlay))[name]["spec"]["terminationGracePeriodSeconds"] >= TRITON.stop_s


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_of_a_service_is_a_setting_of_it(
    rendered: Rendered, settings_of: SettingsOf, tmp_path: Path, overlay: str, service: str
) -> None:
    objects = rendered(overlay)
    pod = pods(objects)[service]
    told = settings_environment(objects, pod, tmp_path)
    settings = settings_of(service, told)
    ours_only = {name for name in told if name.startswith(PREFIX)}
    assert [name for name in ours_only if not is_setting(name, service, settings)] == []
    assert listens_for_others(settings, service)
    assert pod["spec"]["terminationGracePeriodSeconds"] > settings.drain_s + GRACE_S
    mounts = {Path(each["mountPath"]) for each in container_of(pod)["volumeMounts"] if not each.get("readOnly", False)}
    assert mounts & {settings.state_dir, *settings.state_dir.parents}, "it could not write its state"
    host, port = HOSTS["triton"][service], LISTENS["triton"]["grpc"]
    for address in settings.triton.split(","):
        assert re.fullmatch(rf"({host}-\d+\.)?{host}:{port}", address), address


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_here_what_compose_tells_it(rendered: Rendered, service: str) -> None:
    objects = rendered("dev")
    here = set(environment_of(objects, pods(objects)[service]))
    there = {name for name in compose()["services"][service]["environment"] if name.startswith(PREFIX)}
    # Compose has these in a file, which the dev overlay does without.
    assert here - there == {"MILLPOND_PARTITIONS", "MILLPOND_REPLICATION"}
    assert there - here == {FILE_VARIABLE, "MILLPOND_PROVIDER_MODEL"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_replicas_number_is_its_own(rendered: Rendered, overlay: str) -> None:
    for service in SERVICES:
        (replica,) = (
            each for each in container_of(pods(rendered(overlay))[service])["env"] if each["name"] == "MILLPOND_REPLICA"
        )
        assert replica["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"


def addresses(objects: list[Document]) -> Iterator[tuple[str, str, int]]:
    """(pod, host, port) of every address that a pod of Millpond is told and uses."""
    for name, pod in ours(objects).items():
        for variable, value in environment_of(objects, pod).items():
            if variable.startswith(PREFIX) and uses(name, variable):
                named = re.sub(r"^https://([^/:]+)(/|$)", r"https://\1:443\2", value)
                # A pod of a set has its name in the set's service.
                yield from (
                    (name, re.sub(r"^([a-z-]+)-\d+\.\1$", r"\1", host), int(port))
                    for host, port in ADDRESS.findall(named)
                )


def uses(name: str, variable: str) -> bool:
    """All read one ConfigMap, and of it what they need."""
    users = {
        "MILLPOND_MILVUS": {"cache"},
        "MILLPOND_CACHE_GRPC": {"batcher", "frontier"},
        "MILLPOND_TRITON": {"router", "cache", "batcher"},
        "MILLPOND_PROVIDER_BASE_URL": {"frontier"},
        "MILLPOND_OTLP_ENDPOINT": set(SERVICES),
    }
    return name in users.get(variable, {*SERVICES, "topics"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_address_is_a_service_and_may_be_spoken_to(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    services = kinds(objects, "Service")
    found = list(addresses(objects))
    assert {name for name, _, _ in found} == {*SERVICES, "topics"}
    for name, host, port in found:
        labels = pods(objects)[name]["metadata"]["labels"]
        if host not in services:
            # Somebody else's: in another namespace, so its name has two parts.
            assert "." in host, f"{name} is told {host}, which is not there"
            assert allows(objects, "egress", labels, {}, port), f"{name} may not reach {host}:{port}"
            continue
        assert port in {each["port"] for each in services[host]["spec"]["ports"]}, f"{host} has no port {port}"
        target = pods(objects)[host]["metadata"]["labels"]
        assert allows(objects, "egress", labels, target, port), f"{name} may not speak to {host}:{port}"
        assert allows(objects, "ingress", target, labels, port), f"{host}:{port} does not listen to {name}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_nobody_needs_may_not_be_spoken_to(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    labels = {name: pod["metadata"]["labels"] for name, pod in ours(objects).items()}
    needed = {(name, host, port) for name, host, port in addresses(objects)}
    for (name, own), (host, theirs), port in product(labels.items(), labels.items(), (8001, 9090)):
        may = allows(objects, "egress", own, theirs, port) and allows(objects, "ingress", theirs, own, port)
        assert may == ((name, host, port) in needed), f"{name} and {host}:{port}"
    stranger = {"app.kubernetes.io/name": "stranger"}
    assert not any(allows(objects, "ingress", own, stranger, port) for own in labels.values() for port in (8001, 9090))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_lead_to_pods_that_listen(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    for name, service in kinds(objects, "Service").items():
        (pod,) = (
            p
            for p in pods(objects).values()
            if selects({"matchLabels": service["spec"]["selector"]}, p["metadata"]["labels"])
        )
        listens = {each["name"]: each["containerPort"] for each in container_of(pod)["ports"]}
        for port in service["spec"]["ports"]:
            assert listens[port.get("targetPort", port["name"])] == port["port"], name
            assert port["port"] in LISTENS[component_of(name)].values(), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_maintenance_takes_one_replica_at_a_time(rendered: Rendered, overlay: str) -> None:
    objects = rendered(overlay)
    budgets = kinds(objects, "PodDisruptionBudget")
    assert set(budgets) == {*SERVICES, *TRITONS}
    for name, budget in budgets.items():
        # Not minAvailable: with one replica no node could ever be drained.
        assert budget["spec"]["maxUnavailable"] == 1
        assert selects(budget["spec"]["selector"], pods(objects)[name]["metadata"]["labels"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_topics_are_made_as_the_services_expect_them(
    rendered: Rendered, settings_of: SettingsOf, tmp_path: Path, overlay: str
) -> None:
    objects = rendered(overlay)
    topics = pods(objects)["topics"]
    *_, flag, module = container_of(topics)["command"]
    assert (flag, find_spec(module) is not None) == ("-m", True)
    assert container_of(topics)["image"] == container_of(pods(objects)["cache"])["image"]
    told = environment_of(objects, topics)
    for service in SERVICES:
        theirs = environment_of(objects, pods(objects)[service])
        for name in ("KAFKA_BOOTSTRAP", "KAFKA", "PARTITIONS", "REPLICATION", "TENANTS_BY_TOPIC", "CONFIG"):
            assert told.get(PREFIX + name) == theirs.get(PREFIX + name), f"{service} and {name}"


def test_production_is_of_production_size(rendered: Rendered) -> None:
    objects = rendered("production")
    workloads = kinds(objects, "StatefulSet", "Deployment")
    told = environment_of(objects, pods(objects)["router"])
    assert (told["MILLPOND_PARTITIONS"], told["MILLPOND_REPLICATION"]) == ("24", "3")
    for name, workload in workloads.items():
        # A replica without a partition would idle.
        assert 2 <= workload["spec"]["replicas"] <= int(told["MILLPOND_PARTITIONS"]), name
    generators = environment_of(objects, pods(objects)["batcher"])["MILLPOND_TRITON"].split(",")
    named = (f"generator-{number}.generator:8001" for number in range(workloads["generator"]["spec"]["replicas"]))
    assert generators == [*named]
    assert container_of(pods(objects)["generator"])["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container_of(pods(objects)["generator"])["image"].startswith("millpond-vllm:")


def test_productions_secrets_are_named_and_explained_and_not_here(rendered: Rendered) -> None:
    objects = rendered("production")
    assert not kinds(objects, "Secret")
    named: set[str] = set()
    for name, pod in ours(objects).items():
        by_variable = {
            e["name"]: e["valueFrom"]["secretKeyRef"]
            for e in container_of(pod).get("env", [])
            if "secretKeyRef" in e.get("valueFrom", {})
        }
        volumes = {v["secret"]["secretName"] for v in pod["spec"].get("volumes", []) if "secret" in v}
        named |= volumes | {each["name"] for each in by_variable.values()}
        if name in (*SERVICES, "topics"):
            assert by_variable["MILLPOND_KAFKA"]["name"] == "millpond-kafka"
            assert not by_variable["MILLPOND_KAFKA"].get("optional", False)
            assert volumes == {"millpond-kafka"}, "the authority's certificate"
        assert ("MILLPOND_PROVIDER_API_KEY" in by_variable) == (name == "frontier")
    page = (REPOSITORY / "docs" / "deploy.md").read_text()
    assert named == {each for each in named if f"secret generic {each}" in page}


def test_kafka_in_the_dev_overlay_is_composes(rendered: Rendered) -> None:
    kafka = container_of(pods(rendered("dev"))["kafka"])
    other = compose()["services"]["kafka"]
    assert kafka["command"] == other["command"]
    assert {each["name"]: each["value"] for each in kafka["env"]} == other["environment"]


def test_the_default_settings_of_the_base_are_the_codes(rendered: Rendered) -> None:
    objects = rendered("dev")
    told = environment_of(objects, pods(objects)["router"])
    defaults = Settings.model_validate({})
    assert (told["MILLPOND_PARTITIONS"], told["MILLPOND_REPLICATION"]) == (
        str(defaults.partitions),
        str(defaults.replication),
    )
