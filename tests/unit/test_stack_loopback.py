"""A server that binds every interface is kept on 127.0.0.1, and otherwise is as it was."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys

import pytest

from millpond_cli.stack.loopback import EVERYWHERE, on_loopback

RUN = "import os, sys; from millpond_cli.stack import loopback; loopback.run(sys.argv[1:], os.environ)"

LISTENER = """
import socket, sys
kind, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as server:
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((address, 0))
    server.listen()
    print(*server.getsockname()[:2], flush=True)
    server.accept()
"""


def kept(*command: str) -> subprocess.Popen[str]:
    """The command, run as the stack runs Milvus."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", RUN, *command], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("asked", "given"), [("0.0.0.0", "127.0.0.1"), ("::", "::ffff:127.0.0.1"), ("127.0.0.1", "127.0.0.1")]
)
def test_a_socket_for_every_interface_is_bound_to_loopback_and_takes_connections(asked: str, given: str) -> None:
    with kept(sys.executable, "-c", LISTENER, "stream", asked) as server:
        assert server.stdout is not None
        address, port = server.stdout.readline().split()
        assert address == given
        with socket.create_connection(("127.0.0.1", int(port))):
            assert server.wait(30) == 0


def test_a_bind_that_fails_fails_as_it_would() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        source = f"import socket; socket.socket().bind(('', {port}))"
        with kept(sys.executable, "-c", f"try:\n    {source}\nexcept OSError as e:\n    print(e.errno)") as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "98\n"


def test_it_ends_as_the_server_ends() -> None:
    with kept(sys.executable, "-c", "raise SystemExit(7)") as server:
        assert server.wait(30) == 7
    with kept("/no/such/program") as server:
        assert server.wait(30) == 127


def test_sigterm_reaches_the_server_and_sigkill_takes_it_along() -> None:
    waiting = "import signal; print(flush=True); signal.pause()"
    with kept(sys.executable, "-c", waiting) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.terminate()
        assert server.wait(30) == 128 + signal.SIGTERM
    with kept(sys.executable, "-c", waiting) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.kill()
        # Its output ends when both have ended.
        assert server.stdout.read() == ""


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 80, bytes(4)), ("127.0.0.1", 80)),
        (struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 80, b"\x7f\0\0\1"), None),
        (struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", 80, 0, bytes(16), 0), ("::ffff:127.0.0.1", 80)),
        (struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", 80, 0, bytes(15) + b"\1", 0), None),
        (struct.pack("=H", socket.AF_UNIX) + b"/tmp/socket\0", None),
        (b"", None),
        (b"\2", None),
    ],
)
def test_only_addresses_of_every_interface_are_changed(address: bytes, place: tuple[str, int] | None) -> None:
    assert on_loopback(address) == place


WITHOUT_PIDFD_GETFD = """
import ctypes, struct
libc = ctypes.CDLL(None)
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 438), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
"""
"""As Docker's profile has it: another process's descriptors may not be had."""


@pytest.mark.parametrize(("allowed", "code"), [("", 1), ("1", 0)])
def test_where_it_cannot_be_kept_it_does_not_run_unless_that_is_wanted(allowed: str, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), EVERYWHERE: allowed}
    command = [sys.executable, "-c", WITHOUT_PIDFD_GETFD + RUN, sys.executable, "-c", "print('it ran')"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == code
    assert ("it ran" in ended.stdout) == bool(allowed)
    assert ("--cap-add SYS_PTRACE" in ended.stderr) != bool(allowed)
