"""A taken port is named, with who has it."""

from __future__ import annotations

import os
import socket

import pytest

from millpond_cli.stack.components import COMPONENTS, SPAN
from millpond_cli.stack.description import select
from millpond_cli.stack.errors import PortTaken
from millpond_cli.stack.plan import Facts, plan
from millpond_cli.stack.ports import Taken, check_base, free_base, is_free, listening_inodes, owner_of, taken

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4A94 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000 100 0 0 10 0
   1: 0100007F:4A94 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0000 100 0 0 10 0
   2: 00000000:4A95 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0000 100 0 0 10 0
"""


def test_only_the_listening_socket_of_the_port_counts() -> None:
    assert listening_inodes(TABLE, 19092) == {"111"}
    assert listening_inodes(TABLE, 19093) == {"333"}
    assert listening_inodes(TABLE, 19094) == set()


def test_a_taken_port_is_named_with_its_component_and_its_owner() -> None:
    places = {"python": "p", "repo": "r", "data": "d", "kafka_libs": "k"}
    facts = Facts(places, config="", environment={}, jaeger="missing", traces_file="")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        (kafka,) = select(COMPONENTS, frozenset({"kafka"}))
        base = port - kafka.ports["broker"]
        found = taken(plan(COMPONENTS, facts, base, frozenset({"kafka"}), {}).instances)
        assert [(each.port, each.component) for each in found] == [(port, "kafka")]
        assert f"port {port} (kafka) is taken by pid {os.getpid()} (" in str(found[0])
        assert str(found[0]).endswith("use --port-base")
    assert is_free(port)


def test_a_listener_on_every_interface_takes_the_port_too() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        owner = owner_of(port)
        assert owner is not None
        assert owner[0] == os.getpid()


def test_an_owner_that_can_not_be_seen_is_said_so() -> None:
    assert str(Taken(19092, "kafka", None)) == "port 19092 (kafka) is taken by another program: use --port-base"


@pytest.mark.parametrize("base", [0, 80, 1023, 65535 - SPAN + 1, 70000, -1])
def test_a_port_base_that_does_not_fit_says_what_does(base: int) -> None:
    assert f"--port-base {base}" in (check_base(base, SPAN) or "")


@pytest.mark.parametrize("base", [1024, 19000, 65535 - SPAN])
def test_a_port_base_that_fits(base: int) -> None:
    assert check_base(base, SPAN) is None


def test_a_free_base_has_all_its_ports_free() -> None:
    # Below the numbers that outgoing connections and the other tests take.
    port = free_base([0, 1], range(10_000, 18_000, 2))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert free_base([3], [port - 3, port - 2]) == port - 2
        with pytest.raises(PortTaken):
            free_base([3], [port - 3])
