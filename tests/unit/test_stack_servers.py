"""The configuration that the servers are started with."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.setup.home import REPOSITORY
from millpond_cli.setup.milvus import package_data
from millpond_cli.stack import kafka_server, milvus_server
from millpond_cli.stack.components import MILVUS


def properties(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_kafka_listens_on_loopback_only_and_no_setting_stands_twice() -> None:
    static = (REPOSITORY / "stack" / "kafka" / "server.properties").read_text()
    text = kafka_server.settings(static, Path("/log"), 19092, 19093)
    found = properties(text)
    assert len(found) == sum(1 for line in text.splitlines() if line and not line.startswith("#"))
    assert found["listeners"] == "BROKER://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert found["auto.create.topics.enable"] == "false"
    assert found["message.max.bytes"] == str(4 << 20)
    assert found["transaction.abort.timed.out.transaction.cleanup.interval.ms"] == "500"


@given(st.binary(min_size=16, max_size=16))
def test_a_cluster_id_is_no_option(random: bytes) -> None:
    identity = kafka_server.cluster_id(random)
    assert len(identity) == 22
    assert not identity.startswith("-")


def test_milvus_is_told_every_port_and_address() -> None:
    import yaml

    template = (package_data() / "config.yaml.template").read_text()
    values = {name: str(20000 + n) for n, name in enumerate(milvus_server.PORT_NAMES)}
    text = milvus_server.configuration(template, {**values, "proxy_port": "19050"}, Path("/etcd.yaml"))
    assert "{{" not in text
    found = yaml.safe_load(text)
    assert found["etcd"]["config"]["path"] == "/etcd.yaml"
    assert found["proxy"]["port"] == 19050
    assert {found[part]["ip"] for part in milvus_server.PARTS} == {"127.0.0.1"}
    assert found["common"]["session"]["ttl"] == milvus_server.SESSION_S
    own = [found[part]["port"] for part in milvus_server.PARTS if part != "proxy"]
    assert len({*own, found["proxy"]["internalPort"]}) == len(own) + 1
    assert all(20000 <= port < 20010 for port in own)


def test_milvuss_parts_fit_into_their_ports() -> None:
    inner = [number for name, number in MILVUS.ports.items() if name.startswith("inner")]
    # One more than the template names: etcd's peers.
    assert len(inner) == len(milvus_server.PORT_NAMES) + 1
    assert inner == list(range(inner[0], inner[0] + len(inner)))
