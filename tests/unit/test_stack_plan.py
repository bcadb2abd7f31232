"""What a stack consists of, by what is on the machine and what the person set."""

from __future__ import annotations

from dataclasses import replace

from millpond_cli.stack.components import COMPONENTS
from millpond_cli.stack.plan import Facts, Plan, plan

PLACES = {
    name: f"/{name}"
    for name in (
        *("python", "models_python", "repo", "models", "data", "assets"),
        *("kafka_libs", "jaeger_binary", "milvus_binaries"),
    )
}
FACTS = Facts(PLACES, config="/c.yaml", environment={}, jaeger="there", traces_file="/traces.jsonl")


def planned(facts: Facts = FACTS, only: frozenset[str] | None = None, **replicas: int) -> Plan:
    return plan(COMPONENTS, facts, 19000, only, replicas)


def names(a_plan: Plan) -> list[str]:
    return [each.name for each in a_plan.instances]


def environment_of(a_plan: Plan, name: str) -> dict[str, str]:
    (instance,) = (each for each in a_plan.instances if each.name == name)
    return {key: value for key, value in instance.environment.items() if value}


def test_everything_runs_and_knows_each_other() -> None:
    whole = planned()
    assert names(whole) == [component.name for component in COMPONENTS]
    assert not whole.notes
    assert not whole.late
    assert environment_of(whole, "frontier") == {
        "MILLPOND_KAFKA_BOOTSTRAP": "127.0.0.1:19092",
        "MILLPOND_TRITON": "127.0.0.1:19081",
        "MILLPOND_MILVUS": "http://127.0.0.1:19050",
        "MILLPOND_CACHE_GRPC": "127.0.0.1:19130",
        "MILLPOND_HTTP_PORT": "19160",
        "MILLPOND_GRPC_PORT": "19170",
        "MILLPOND_STATE_DIR": "/data/frontier",
        "MILLPOND_REPLICA": "0",
        "MILLPOND_CONFIG": "/c.yaml",
        "MILLPOND_PROVIDER_BASE_URL": "http://127.0.0.1:19070/v1",
        "MILLPOND_PROVIDER_API_KEY": "stand-in",
        "MILLPOND_OTLP_ENDPOINT": "http://127.0.0.1:19017",
    }
    assert whole.addresses.frontier_grpc == "127.0.0.1:19170"
    assert whole.addresses.http["batcher"] == "http://127.0.0.1:19140"


def test_without_jaeger_spans_go_to_the_file() -> None:
    without = planned(replace(FACTS, jaeger="missing"))
    assert "jaeger" not in names(without)
    assert without.notes == (("jaeger", "left out: it was not built; traces go to /traces.jsonl"),)
    assert environment_of(without, "router")["MILLPOND_TRACES_FILE"] == "/traces.jsonl"
    assert "MILLPOND_OTLP_ENDPOINT" not in environment_of(without, "router")
    assert (without.addresses.otlp, without.addresses.jaeger_query) == (None, None)


def test_a_jaeger_that_is_coming_is_late_and_spans_go_to_the_file_meanwhile() -> None:
    meanwhile = planned(replace(FACTS, jaeger="coming"))
    assert meanwhile.late == {"jaeger"}
    assert environment_of(meanwhile, "router")["MILLPOND_TRACES_FILE"] == "/traces.jsonl"
    assert meanwhile.addresses.otlp is None
    assert meanwhile.addresses.jaeger_query == "http://127.0.0.1:19086"


def test_the_persons_collector_takes_jaegers_place() -> None:
    theirs = planned(replace(FACTS, environment={"MILLPOND_OTLP_ENDPOINT": "http://collector:4317"}))
    assert "jaeger" not in names(theirs)
    assert environment_of(theirs, "cache")["MILLPOND_OTLP_ENDPOINT"] == "http://collector:4317"
    assert theirs.addresses.traces_file is None


def test_a_real_provider_takes_the_stand_ins_place() -> None:
    given = {"MILLPOND_PROVIDER_BASE_URL": "https://models.example/v1", "MILLPOND_PROVIDER_API_KEY": "secret"}
    theirs = planned(replace(FACTS, environment=given))
    assert "stand-in" not in names(theirs)
    assert environment_of(theirs, "frontier").items() >= given.items()
    assert theirs.addresses.provider == "https://models.example/v1"
    assert theirs.notes == (("stand-in", "left out: the provider is https://models.example/v1"),)


def test_only_some_components_and_no_traces_without_jaeger_among_them() -> None:
    some = planned(only=frozenset({"kafka", "router"}))
    assert names(some) == ["kafka", "router"]
    assert not {"MILLPOND_OTLP_ENDPOINT", "MILLPOND_TRACES_FILE"} & environment_of(some, "router").keys()


def test_a_service_whose_module_is_missing_is_left_out_and_said_so() -> None:
    without = planned(replace(FACTS, missing_modules=frozenset({"millpond_cache"})))
    assert "cache" not in names(without)
    assert ("cache", "left out: the Python module millpond_cache is not installed") in without.notes


def test_replicas_are_listed_with_their_addresses() -> None:
    two = planned(batcher=2)
    assert two.addresses.http["batcher-1"] == "http://127.0.0.1:19141"
    assert environment_of(two, "batcher-1")["MILLPOND_REPLICA"] == "1"
    assert environment_of(two, "batcher-1")["MILLPOND_STATE_DIR"] == "/data/batcher-1"
