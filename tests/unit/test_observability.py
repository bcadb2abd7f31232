"""What Prometheus reads is there, and what the alerts ask for is counted."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from manifests import LISTENS, REPOSITORY, component_of, compose, of_profile
from millpond_core import metrics
from millpond_core.settings import SERVICES

FOLDER = REPOSITORY / "observability"

SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
"""Kind of metric → what its name ends in where it is asked for."""


def declared() -> dict[str, set[str]]:
    """Name of a series → its labels."""
    found: dict[str, set[str]] = {"up": {"job", "instance"}}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            for ending in SERIES[family.type]:
                found[family.name + ending] = set(metric._labelnames)  # pyright: ignore[reportPrivateUsage]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_counted(rule: dict[str, Any]) -> None:
    expression: str = rule["expr"]
    asked = set(re.findall(r"\bmillpond_\w+|\bup\b", expression))
    assert asked
    assert asked <= set(declared())
    labels = {label for names in re.findall(r"by \(([^)]*)\)", expression) for label in names.split(", ")}
    labels |= set(re.findall(r"[{,](\w+)=", expression))
    told = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for name in asked:
        assert labels <= declared()[name], name
    assert told <= (labels if "by (" in expression else declared()["up"])
    assert set(rule["annotations"]) == {"summary", "action"}
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_prometheus_reads_every_service_and_loads_the_alerts() -> None:
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert all((FOLDER / name).is_file() for name in settings["rule_files"])
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in settings["scrape_configs"]}
    assert jobs["millpond"] == [f"{service}:{LISTENS[service]['http']}" for service in SERVICES]
    cpu = of_profile(compose()["services"], "cpu")
    for name in ("triton", "milvus"):
        port = LISTENS[name]["metrics"]
        assert jobs[name] == [f"{service}:{port}" for service in cpu if component_of(service) == name]
