"""Keeps a server that binds every interface, and can't be told otherwise, on 127.0.0.1 (Linux on x86-64).

Milvus's parts listen on ":port" whatever their configuration says, without authentication. A seccomp filter hands each
bind(2) of the server to this process, which carries it out on the loopback address instead: no privileges, no change to
the server, no cost after it has started. This is a convenience for an honest server, not a jail for another.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from millpond_cli.setup.leash import die_with_parent

BIND, SECCOMP, PIDFD_GETFD = 49, 317, 438
"""Numbers of system calls on x86-64."""

EVERYWHERE = "MILLPOND_MILVUS_EVERYWHERE"
"""Set to 1, the server may listen on every interface where it cannot be kept from it."""

PR_SET_NO_NEW_PRIVS = 38
"""prctl(2): without it only root may install a filter."""

SET_MODE_FILTER, NEW_LISTENER = 1, 8
"""seccomp(2): install a filter, and give back a descriptor on which the calls it holds arrive."""

NOTIFICATION = struct.Struct("=QII iIQ 6Q")
"""id, pid, flags; number, architecture, instruction; arguments (struct seccomp_notif)."""

ANSWER = struct.Struct("=QqiI")
"""id, value, error, flags (struct seccomp_notif_resp)."""

RECEIVE = 0xC0000000 | NOTIFICATION.size << 16 | ord("!") << 8
SEND = 0xC0000000 | ANSWER.size << 16 | ord("!") << 8 | 1
"""ioctl(2) requests of the descriptor."""

CONTINUE = 1
"""Answer's flag: the call goes on as it was."""


def _filter() -> bytes:
    """BPF: bind(2) of x86-64 is held, everything else goes on."""
    load, jump_equal, give_back = 0x20, 0x15, 0x06
    architecture, x86_64, held, allowed = 4, 0xC000003E, 0x7FC00000, 0x7FFF0000
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load, 0, 0, architecture),
            (jump_equal, 0, 3, x86_64),
            (load, 0, 0, 0),
            (jump_equal, 0, 1, BIND),
            (give_back, 0, 0, held),
            (give_back, 0, 0, allowed),
        )
    )


def on_loopback(address: bytes) -> tuple[str, int] | None:
    """Where a socket bound to this `struct sockaddr` goes instead; None where it may stay."""
    if len(address) < struct.calcsize("=HH"):
        return None
    family, port = struct.unpack_from("=H", address)[0], struct.unpack_from("!H", address, 2)[0]
    if family == socket.AF_INET and address[4:8] == bytes(4):
        return "127.0.0.1", port
    if family == socket.AF_INET6 and address[8:24] == bytes(16):
        # A socket for both families, as Go opens them, still takes IPv4's loopback.
        return "::ffff:127.0.0.1", port
    return None


def run(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run the command with its sockets on 127.0.0.1, pass SIGTERM on, and end as it ends.

    Where the kernel or a container forbids that, end with a line that says so; with EVERYWHERE set, become the command.
    """
    if reason := _forbidden():
        _without_filter(command, environment, reason)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _become(command, environment, theirs)
    theirs.close()
    message, descriptors, _, _ = socket.recv_fds(ours, 64, 1)
    if not descriptors:
        os.waitpid(child, 0)
        _without_filter(command, environment, message.decode())
    _pass_on(signal.SIGTERM, child)
    _serve(descriptors[0], child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


def _forbidden() -> str:
    """Why another process's sockets may not be had here, "" where they may: Docker asks for CAP_SYS_PTRACE."""
    own = os.pidfd_open(os.getpid())
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        copy = libc.syscall(PIDFD_GETFD, own, own, 0)
        if copy < 0:
            return f"pidfd_getfd: {os.strerror(ctypes.get_errno())}"
        os.close(copy)
        return ""
    finally:
        os.close(own)


def _without_filter(command: Sequence[str], environment: Mapping[str, str], reason: str) -> NoReturn:
    if environment.get(EVERYWHERE) != "1":
        print(
            f"cannot be kept on 127.0.0.1 here ({reason}), and it asks nobody who they are. In a container: run that "
            f"with --cap-add SYS_PTRACE, or set {EVERYWHERE}=1 where nobody else reaches its ports",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)
    print(f"listens on every interface ({reason})", flush=True)
    os.execvpe(command[0], list(command), dict(environment))  # noqa: S606


def _become(command: Sequence[str], environment: Mapping[str, str], theirs: socket.socket) -> NoReturn:
    die_with_parent()
    libc = ctypes.CDLL(None, use_errno=True)
    code = _filter()
    instructions = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions of eight bytes, and where.
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    listener = -1
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        listener = libc.syscall(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, program)
    if listener < 0:
        theirs.send(os.strerror(ctypes.get_errno()).encode())
        os._exit(1)
    socket.send_fds(theirs, [b"."], [listener])
    theirs.close()
    os.close(listener)
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606
    except OSError as failure:
        print(f"{command[0]}: {failure.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def _pass_on(signum: signal.Signals, child: int) -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        with suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signum, handler)


def _serve(listener: int, child: int) -> None:
    """Answer each bind until the child has ended."""
    process = os.pidfd_open(child)
    polling = select.poll()
    polling.register(listener, select.POLLIN)
    polling.register(process, select.POLLIN)
    while True:
        ready = dict(polling.poll())
        if process in ready:
            return
        if ready.get(listener, 0) & select.POLLIN:
            # The thread may be gone by now, which is no error of ours.
            with suppress(FileNotFoundError):
                _answer(listener, process, child)
        elif listener in ready:
            polling.unregister(listener)


def _answer(listener: int, process: int, child: int) -> None:
    held = bytearray(NOTIFICATION.size)
    fcntl.ioctl(listener, RECEIVE, held)
    identity, _, _, _, _, _, descriptor, pointer, length, *_ = NOTIFICATION.unpack(held)
    address = _memory(child, pointer, length)
    place = on_loopback(address) if address is not None else None
    if address is None:
        # What cannot be looked at could be any interface.
        print("bind refused: its address cannot be read (kernel.yama.ptrace_scope?)", file=sys.stderr, flush=True)
        answer = ANSWER.pack(identity, 0, -errno.EPERM, 0)
    elif place is None:
        answer = ANSWER.pack(identity, 0, 0, CONTINUE)
    else:
        answer = ANSWER.pack(identity, 0, -_bind(process, descriptor, place), 0)
    fcntl.ioctl(listener, SEND, answer)


def _memory(child: int, pointer: int, length: int) -> bytes | None:
    """At most a socket address's worth of the child's memory; None where it can't be read."""
    try:
        with open(f"/proc/{child}/mem", "rb", buffering=0) as memory:
            memory.seek(pointer)
            return memory.read(min(length, 128))
    except OSError:
        return None


def _bind(process: int, descriptor: int, place: tuple[str, int]) -> int:
    """Bind the child's socket in its place. Returns the error number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    copy = libc.syscall(PIDFD_GETFD, process, descriptor, 0)
    if copy < 0:
        return ctypes.get_errno()
    with socket.socket(fileno=copy) as theirs:
        try:
            theirs.bind(place)
        except OSError as failure:
            return failure.errno or 1
    return 0
