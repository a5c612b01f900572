"""RPC servers in the place of a device's: TVM's own, started here as a user starts them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from tvm_mobilenet.emulation import devices
from tvm_mobilenet.remote.tracker import TrackerAddress

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def tracker() -> Iterator[TrackerAddress]:
    """A tracker that holds no device yet."""
    with devices.serving(0, "none", free_port()) as address:
        yield TrackerAddress(*address)


@contextlib.contextmanager
def server(
    address: TrackerAddress,
    key: str,
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """This machine as a device; ``before`` is a command that the server's is appended to."""
    command = devices.server_command(sys.executable, address.port, key)
    with devices.running([*before, *command], environment) as process:
        devices.wait_until(lambda: devices.registered(address, key) == 1, [process], "no device")
        yield process
