"""The RPC tracker: where it listens, which devices it holds, a session on one of them."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.errors import BadInput, RunFailed, last_line

EMULATED_KEY = "arm-emulated"  # of the devices that ``devices --emulate`` starts
TRACKER_PORT = 9190  # what tvm.exec.rpc_tracker listens on unless told otherwise
TRACKER_TIMEOUT_S = 5.0
DEVICE_TIMEOUT_S = 60.0  # for a device that is busy
LAST_PORT = 65535


class TrackerAddress(NamedTuple):
    """Where an RPC tracker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class DeviceQueue:
    """The devices a tracker holds under one key, and the requests that wait for one."""

    key: str
    servers: tuple[str, ...]
    free: int
    pending: int


def tracker_address(text: str) -> TrackerAddress:
    """``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``, for argparse's ``type=``."""
    host, port = text, str(TRACKER_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest:
            host, port = (host, rest[1:]) if rest.startswith(":") else ("", port)
    elif text.count(":") == 1:
        host, port = text.split(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected HOST or HOST:PORT, got {text!r}")
    return TrackerAddress(host, int(port))


def query_tracker(address: TrackerAddress) -> list[DeviceQueue]:
    """What the tracker at ``address`` holds, by key.

    Imports TVM once the tracker answers. Raises RunFailed where nothing listens there, or something
    that is not a TVM tracker does.
    """
    try:
        # TVM itself keeps trying a closed port for a minute
        socket.create_connection(address, TRACKER_TIMEOUT_S).close()
    except OSError as error:
        raise RunFailed(
            f"no RPC tracker at {address} ({error.strerror or error}); "
            "start one with: python -m tvm.exec.rpc_tracker"
        ) from None

    with tvm_runtime.torch_left_out():
        from tvm import rpc

    try:
        with _socket_timeout(TRACKER_TIMEOUT_S):
            session = rpc.connect_tracker(address.host, address.port)
            try:
                return queues(session.summary())
            finally:
                session.close()
    # TVM raises a plain RuntimeError, and what it makes of foreign bytes can be anything of these
    except (OSError, RuntimeError, ValueError) as error:
        raise RunFailed(
            f"what listens at {address} does not answer as a TVM RPC tracker ({error})"
        ) from error


def queues(summary: dict[str, Any]) -> list[DeviceQueue]:
    """The tracker's summary, sorted by key; keys that nobody serves or waits for left out."""
    servers: dict[str, list[str]] = {}
    for server in summary["server_info"]:
        # the tracker names a server "server:KEY"
        key = str(server["key"]).partition(":")[2]
        servers.setdefault(key, []).append(":".join(map(str, server["addr"])))
    counts = summary["queue_info"]
    found = [
        DeviceQueue(
            key,
            tuple(sorted(servers.get(key, []))),
            free=counts.get(key, {}).get("free", 0),
            pending=counts.get(key, {}).get("pending", 0),
        )
        for key in sorted({*servers, *counts})
    ]
    return [queue for queue in found if queue.servers or queue.pending]


def connect(tracker: TrackerAddress, key: str) -> Any:
    """An RPC session on a device of ``key``, waited for if all are busy.

    Raises BadInput for a key that no device has, RunFailed where the tracker or the device does
    not answer, or is of a TVM that speaks another protocol.
    """
    held = query_tracker(tracker)
    if not any(queue.key == key and queue.servers for queue in held):
        keys = ", ".join(queue.key for queue in held if queue.servers) or "none"
        raise BadInput(f"the tracker at {tracker} has no device {key!r}; it has: {keys}")

    with tvm_runtime.torch_left_out():
        from tvm import rpc

    try:
        with _socket_timeout(DEVICE_TIMEOUT_S):  # TVM's client would wait for ever
            return rpc.connect_tracker(*tracker).request(key, max_retry=1)
    except (OSError, RuntimeError) as error:
        if "protocol version mismatch" in str(error):
            raise RunFailed(
                f"device {key!r} of the tracker at {tracker} has a TVM that speaks another RPC "
                f"protocol; install the same apache-tvm there as here"
            ) from error
        raise RunFailed(
            f"no device {key!r} of the tracker at {tracker} was free and answered in "
            f"{DEVICE_TIMEOUT_S:.0f} s: {last_line(error)}"
        ) from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """TVM's tracker client has no timeout of its own; new sockets take this one meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
