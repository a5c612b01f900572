"""A tracker and RPC servers of this machine on loopback: a farm of devices that may be killed.

Its servers are TVM's own, as a board runs them. What a board does when its power fails, its network
hangs or its disk is full can be done to them on purpose.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tvm_mobilenet import files
from tvm_mobilenet.emulation import devices
from tvm_mobilenet.emulation.devices import HOST
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.remote.tracker import TrackerAddress, query_tracker


@dataclass
class Farm:
    """Processes by what they are; every one is the leader of a group of its own.

    What they were sent and kept goes with ``folder``, however they end.
    """

    address: TrackerAddress
    folder: Path
    tracker: subprocess.Popen[bytes]
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_servers(
        self, count: int, key: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start servers under ``key`` and wait until the tracker has them.

        Raises RunFailed where they do not come up.
        """
        expected = self.registered(key) + count
        self.start_servers(count, key, environment)
        wait_for(lambda: self.registered(key) >= expected, f"{count} servers under {key!r}")

    def start_servers(
        self, count: int, key: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start servers under ``key``; ``environment`` is what theirs has beside this process's."""
        command = devices.server_command(sys.executable, self.address.port, key)
        self.servers += [start_process(command, self.folder, environment) for _ in range(count)]

    @contextlib.contextmanager
    def server(
        self,
        key: str,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """One more server, which ends with the block.

        ``before`` is a command that the server's is appended to.
        """
        command = devices.server_command(sys.executable, self.address.port, key)
        process = start_process([*before, *command], self.folder, environment)
        try:
            wait_for(lambda: self.registered(key) == 1, f"a server under {key!r}", [process])
            yield process
        finally:
            _end(process)

    def registered(self, key: str) -> int:
        """How many servers the tracker has under ``key``."""
        try:
            queues = query_tracker(self.address)
        except RunFailed:
            return 0
        return sum(len(queue.servers) for queue in queues if queue.key == key)

    def signal(self, server: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to a server and to everything it has started."""
        _signal(server, number)

    def close(self) -> None:
        """End every process."""
        for process in [*self.servers, self.tracker]:
            _end(process)


@contextlib.contextmanager
def running(count: int = 0, key: str = "") -> Iterator[Farm]:
    """A tracker with ``count`` servers under ``key``; all of it ends with the block.

    Raises RunFailed where they do not come up.
    """
    address = TrackerAddress(HOST, free_port())
    with files.temporary_folder() as folder:
        farm = Farm(address, folder, start_process(devices.tracker_command(address.port), folder))
        try:
            wait_for(lambda: devices.listens(address), "a tracker", [farm.tracker])
            farm.add_servers(count, key)
            yield farm
        finally:
            farm.close()


def free_port() -> int:
    """A port of ``HOST`` that nothing listens at."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def wait_for(
    reached: Callable[[], bool], what: str, processes: Sequence[subprocess.Popen[bytes]] = ()
) -> None:
    """Wait for ``what``. Raises RunFailed when it takes too long, or a process ends before."""
    devices.wait_until(reached, list(processes), f"no {what} on {HOST}")


def start_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    own = {"TVM_NUM_THREADS": "1", "TMPDIR": str(folder)}
    return subprocess.Popen(
        command,
        env={**os.environ, **own, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL)
    process.wait()
