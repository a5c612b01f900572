"""A tracker and RPC servers on loopback, which tests may kill: TVM's own, as on a board."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.remote.tracker import TrackerAddress, query_tracker

HOST = "127.0.0.1"
START_TIMEOUT_S = 60


# TVM imports torch wherever it is, for seconds of every process; a board has none either.
NO_TORCH = "raise ImportError('left out')\n"


@dataclass
class Farm:
    """Processes by what they are; every one is the leader of a group of its own."""

    address: TrackerAddress
    folder: Path
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
        ports = ["--port", "9100", "--port-end", "9999"]
        where = ["--host", HOST, *ports, "--tracker", f"{HOST}:{self.address.port}"]
        for _ in range(count):
            command = ["-m", "tvm.exec.rpc_server", *where, "--key", key, "--silent"]
            self.servers.append(start(command, self.folder, environment))

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
    folder = Path(tempfile.mkdtemp(prefix="rpc-farm-"))
    (folder / "torch.py").write_text(NO_TORCH)
    farm = Farm(TrackerAddress(HOST, port), folder)
    where = ["--host", HOST, "--port", str(port), "--port-end", str(port + 1), "--silent"]
    try:
        farm.tracker = start(["-m", "tvm.exec.rpc_tracker", *where], folder)
        wait_for(lambda: listens(farm.address))
        farm.add_servers(count, key)
        yield farm
    finally:
        farm.close()
        shutil.rmtree(folder)


def start(
    arguments: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    own = {"TVM_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **own, **(environment or {})},
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
