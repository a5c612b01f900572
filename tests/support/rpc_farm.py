"""A tracker and RPC servers on loopback, which tests may kill: TVM's own, as on a board."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tvm_mobilenet.emulation import devices
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.remote.tracker import TrackerAddress, query_tracker

HOST = "127.0.0.1"
START_TIMEOUT_S = 60


@dataclass
class Farm:
    """Processes by what they are; every one is the leader of a group of its own."""

    address: TrackerAddress
    tracker: subprocess.Popen[bytes] | None = None
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_servers(
        self, count: int, key: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start servers under ``key`` and wait until the tracker has them."""
        wanted = self.registered(key) + count
        self.start_servers(count, key, environment)
        wait_for(lambda: self.registered(key) >= wanted)

    def start_servers(
        self, count: int, key: str, environment: Mapping[str, str] | None = None
    ) -> None:
        command = devices.server_command(sys.executable, self.address.port, key)
        self.servers += [start(command, environment) for _ in range(count)]

    def registered(self, key: str) -> int:
        try:
            held = query_tracker(self.address)
        except RunFailed:
            return 0
        return sum(len(queue.servers) for queue in held if queue.key == key)

    def signal(self, server: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to a server and to everything it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)

    def close(self) -> None:
        for process in [*self.servers, *([self.tracker] if self.tracker else [])]:
            self.signal(process, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def running(count: int, key: str) -> Iterator[Farm]:
    """A tracker with ``count`` servers under ``key``; all of it ends with the block."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    farm = Farm(TrackerAddress(HOST, port))
    try:
        farm.tracker = start(devices.tracker_command(port))
        wait_for(lambda: listens(farm.address))
        farm.add_servers(count, key)
        yield farm
    finally:
        farm.close()


def start(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={**os.environ, "TVM_NUM_THREADS": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)


def listens(address: TrackerAddress) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True
