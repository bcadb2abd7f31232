"""The Dockerfiles can't be built here, so they are read: what goes in, what it may do, and which images are named."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from manifests import LISTENS, REPOSITORY, compose, kubernetes_files
from millpond_core.settings import SERVICES, Settings

SERVICE_DOCKERFILES = {service: REPOSITORY / "services" / service / "Dockerfile" for service in SERVICES}

MODELS_DOCKERFILE = REPOSITORY / "models" / "Dockerfile"


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, the rest), without comments and with continued lines joined."""
    if path.parent.parent.name == "services" and not path.with_name("pyproject.toml").is_file():
        pytest.skip(f"the service {path.parent.name} is not there yet")
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(words[0].upper(), words[1]) for line in joined.splitlines() if len(words := line.split(maxsplit=1)) == 2]


def stages(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Name of the stage (its image where it has none) → its instructions, FROM first."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, rest in instructions(path):
        if instruction == "FROM":
            name = rest.split()[-1]
        if name:
            found.setdefault(name, []).append((instruction, rest))
    return found


def said(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def sources(stage: list[tuple[str, str]]) -> list[str]:
    """What is copied out of the repository."""
    copies = [shlex.split(rest) for rest in said(stage, "COPY")]
    outside = [words for words in copies if not any(word.startswith("--from=") for word in words)]
    return [word.rstrip("/") for words in outside for word in words[:-1] if not word.startswith("--")]


def is_sent(source: str) -> bool:
    """Whether .dockerignore lets it into a build; the last line that matches decides."""
    sent = True
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if source == pattern or source.startswith(f"{pattern}/") or fnmatch(source, pattern):
                sent = line.startswith("!")
    return sent


def kubernetes_images() -> set[str]:
    found: set[str] = set()
    for path, document in kubernetes_files():
        if path.name == "kustomization.yaml" or "spec" not in document:
            continue
        pod = document["spec"].get("template", {}).get("spec", {})
        found |= {container["image"] for container in pod.get("containers", []) if "image" in container}
    return found


@pytest.mark.parametrize("path", [*SERVICE_DOCKERFILES.values(), MODELS_DOCKERFILE], ids=lambda path: path.parent.name)
def test_what_is_copied_is_there_and_reaches_the_build(path: Path) -> None:
    for stage in stages(path).values():
        for source in sources(stage):
            assert list(REPOSITORY.glob(source)), f"{source} is not in the repository"
            assert is_sent(source), f"{source} is kept out by .dockerignore"
    assert said(instructions(path), "ADD") == []


@pytest.mark.parametrize("path", [*SERVICE_DOCKERFILES.values(), MODELS_DOCKERFILE], ids=lambda path: path.parent.name)
def test_no_image_runs_as_root_or_is_built_on_a_moving_tag(path: Path) -> None:
    for name, stage in stages(path).items():
        image = said(stage, "FROM")[0].split()[0]
        assert image in stages(path) or re.search(r":\d+\.\d+", image), f"{image} is not pinned"
        if said(stage, "ENTRYPOINT") or said(stage, "CMD"):
            # A number, since Kubernetes can't tell whether a name is root's.
            assert re.match(r"[1-9]\d*(:\d+)?$", said(stage, "USER")[-1]), name
    secrets = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")
    assert not [rest for name, rest in instructions(path) if name in ("ENV", "ARG") and secrets.search(rest)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_image_holds_itself_and_core_alone(service: str) -> None:
    path = SERVICE_DOCKERFILES[service]
    everything = [source for stage in stages(path).values() for source in sources(stage)]
    parts = {"core", "proto/python", "requirements/workspace.txt", f"services/{service}"}
    strangers = [source for source in everything if not any((source + "/").startswith(f"{part}/") for part in parts)]
    assert strangers == []
    assert {"core", "proto/python", f"services/{service}"} <= {p for p in parts for s in everything if s.startswith(p)}


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_libraries_are_the_workspaces_by_hash(service: str) -> None:
    final = list(stages(SERVICE_DOCKERFILES[service]).values())[-1]
    installs = [rest for rest in said(final, "RUN") if "pip install" in rest and "--no-deps" not in rest]
    assert installs
    assert all("--require-hashes" in rest for rest in installs)
    (lock,) = (source for source in sources(final) if source.endswith(".txt"))
    assert pins(REPOSITORY / lock) <= pins(REPOSITORY / "requirements" / "workspace.txt")


def pins(path: Path) -> set[str]:
    """ "name==version" of every library of a requirements file."""
    return set(re.findall(r"^[\w.\[\]-]+==[^\s;]+", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_image_starts_it_and_asks_for_its_health(service: str) -> None:
    final = list(stages(SERVICE_DOCKERFILES[service]).values())[-1]
    command = " ".join(said(final, "ENTRYPOINT") + said(final, "CMD"))
    assert f"millpond_{service}" in command
    assert command.startswith("["), "through a shell it would not hear SIGTERM"
    (check,) = said(final, "HEALTHCHECK")
    assert "/healthz" in check
    project = tomllib.loads((REPOSITORY / "services" / service / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"millpond-{service}"


def test_the_cache_may_write_to_the_folder_that_its_volume_is_mounted_on() -> None:
    """A new volume of compose's belongs to whom the image's folder belongs to."""
    final = list(stages(SERVICE_DOCKERFILES["cache"]).values())[-1]
    folder = compose()["services"]["cache"]["environment"]["MILLPOND_STATE_DIR"]
    assert any(folder in rest and re.search("chown|--owner", rest) for rest in said(final, "RUN"))


def test_the_services_images_are_built_on_the_same_python() -> None:
    pythons = {
        said(stage, "FROM")[0].split()[0] for path in SERVICE_DOCKERFILES.values() for stage in stages(path).values()
    }
    assert len({each for each in pythons if ":" in each}) == 1


def test_every_image_that_is_named_is_pinned_and_named_with_one_tag() -> None:
    version = tomllib.loads((REPOSITORY / "core" / "pyproject.toml").read_text())["project"]["version"]
    named = {each["image"] for each in compose()["services"].values()} | kubernetes_images()
    ours = {f"millpond-{name}:{version}" for name in (*SERVICES, "models", "vllm")}
    assert {image for image in named if image.startswith("millpond-")} == ours
    for image in named - ours:
        assert re.search(r":v?\d+\.\d+\.\d+$|:RELEASE\.\d{4}-\d\d-\d\dT[\d-]+Z$", image), f"{image} is not pinned"
    assert len({image.split(":")[0] for image in named}) == len(named), "the same image with two tags"


def test_compose_builds_each_image_from_the_dockerfile_of_its_name() -> None:
    for service, definition in compose()["services"].items():
        if not definition["image"].startswith("millpond-"):
            assert "build" not in definition, service
            continue
        build, name = definition["build"], definition["image"].split(":")[0].removeprefix("millpond-")
        assert build["context"] == "."
        if name in SERVICES:
            assert build["dockerfile"] == f"services/{name}/Dockerfile"
        else:
            assert (build["dockerfile"], build["target"]) == ("models/Dockerfile", name)
            assert name in stages(MODELS_DOCKERFILE)


def test_tritons_two_images_are_of_one_release() -> None:
    bases = [said(stage, "FROM")[0].split()[0] for stage in stages(MODELS_DOCKERFILE).values()]
    releases = {re.fullmatch(r"nvcr\.io/nvidia/tritonserver:([\d.]+)-(?:vllm-python-)?py3", base) for base in bases}
    assert len({release[1] for release in releases if release}) == 1
    assert None not in releases


def test_triton_is_started_as_on_a_laptop() -> None:
    """models/serve.py says how; only where it listens and what it finds in the wheel are its own."""
    laptops = (REPOSITORY / "models" / "serve.py").read_text()
    exit_timeout, stub_timeout = (
        int(re.search(rf"^{name} = (\d+)", laptops, re.MULTILINE)[1])  # pyright: ignore[reportOptionalSubscript]
        for name in ("EXIT_TIMEOUT_S", "STUB_TIMEOUT_S")
    )
    for name, stage in stages(MODELS_DOCKERFILE).items():
        command = json.loads(said(stage, "ENTRYPOINT")[0])
        assert "--model-control-mode=explicit" in command
        assert f"--exit-timeout-secs={exit_timeout}" in command
        assert (f"--backend-config=python,stub-timeout-seconds={stub_timeout}" in command) == (name == "models")
        assert said(stage, "EXPOSE") == [" ".join(str(port) for port in LISTENS["triton"].values())]


def test_the_models_image_holds_every_model_and_what_they_import() -> None:
    stage = stages(MODELS_DOCKERFILE)["models"]
    models = {f"models/{path.parent.name}" for path in (REPOSITORY / "models").glob("*/config.pbtxt")}
    assert models <= set(sources(stage))
    assert json.loads(said(stage, "CMD")[0]) == [f"--load-model={Path(model).name}" for model in sorted(models)]
    install = next(rest for rest in said(stage, "RUN") if "pip install" in rest)
    assert "--require-hashes" in install
    assert {f"requirements/{name}" for name in ("models.txt", "models-torch.txt")} <= set(shlex.split(install))


def config(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())  # pyright: ignore[reportAttributeAccessIssue]


def test_the_urgent_generator_is_the_other_one_but_for_its_size_and_its_priority() -> None:
    models = REPOSITORY / "models"
    usual, urgent = (config(models / name / "config.pbtxt") for name in ("generator", "generator_urgent"))
    usual_nice, urgent_nice = (int(each.parameters.pop("nice").string_value) for each in (usual, urgent))
    assert urgent_nice == 0 < usual_nice
    usual_rows, urgent_rows = (int(each.parameters.pop("max_rows").string_value) for each in (usual, urgent))
    assert usual_rows + urgent_rows == Settings().model_of_role("small").max_rows
    urgent.name = usual.name
    assert urgent == usual


def test_vllm_serves_the_tensors_that_the_generator_serves() -> None:
    ours = config(REPOSITORY / "models" / "generator" / "config.pbtxt")
    vllm = config(REPOSITORY / "models" / "vllm" / "generator" / "config.pbtxt")
    assert (vllm.name, vllm.backend) == (ours.name, "vllm")
    assert list(vllm.input) == list(ours.input)
    # What only ours tells, and nobody needs.
    assert list(vllm.output) == [each for each in ours.output if each.name != "first_token_ms"]
    assert vllm.max_batch_size == ours.max_batch_size
    assert vllm.model_transaction_policy == ours.model_transaction_policy


def test_vllm_reads_as_many_tokens_as_the_settings_promise() -> None:
    engine = json.loads((REPOSITORY / "models" / "vllm" / "generator" / "1" / "model.json").read_text())
    small = Settings.model_validate({}).model_of_role("small")
    assert engine["max_model_len"] == small.context_tokens
    assert re.fullmatch(r"[0-9a-f]{40}", engine["revision"]), "a branch's weights change"


def test_a_laptops_triton_does_not_take_vllms_model_for_one_of_its_own() -> None:
    assert not (REPOSITORY / "models" / "vllm" / "config.pbtxt").exists()
