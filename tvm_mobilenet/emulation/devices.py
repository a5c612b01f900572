"""A tracker and emulated ARM boards on loopback: RPC, tuning and bench over it without a board."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tvm_mobilenet import files, tvm_runtime
from tvm_mobilenet.emulation import emulator
from tvm_mobilenet.emulation.emulator import CORES, Emulator
from tvm_mobilenet.errors import BadInput, RunFailed

HOST = "127.0.0.1"
FIRST_SERVER_PORT, LAST_SERVER_PORT = 9100, 9999
SERVE = "tvm_mobilenet.remote.serve"
START_TIMEOUT_S = 180  # importing TVM alone takes 10 s under emulation
STOP_TIMEOUT_S = 5


@contextlib.contextmanager
def serving(
    count: int, key: str, port: int, device: Emulator | None = None
) -> Iterator[tuple[str, int]]:
    """A tracker at (host, ``port``) that holds ``count`` emulated devices under ``key``.

    They are Raspberry Pi 4s, or ``device`` (cores.py).

    All of it ends with the block.

    Raises BadInput where the emulator is missing or ``port`` is taken, RunFailed where a device
    does not come up.
    """
    python = str((device or emulator.find()).python) if count else ""
    check_free(port)
    address = (HOST, port)
    with contextlib.ExitStack() as processes:
        started = [processes.enter_context(running(tracker_command(port)))]
        wait_until(lambda: listens(address), started, f"no tracker at {HOST}:{port}")
        started += [
            processes.enter_context(running(server_command(python, port, key)))
            for _ in range(count)
        ]
        wait_until(
            lambda: free_servers(address, key) == count,
            started,
            f"the tracker at {HOST}:{port} did not get {count} emulated devices",
        )
        yield address


def tracker_command(port: int) -> list[str]:
    """The command of an RPC tracker."""
    ports = ["--port", str(port), "--port-end", str(port + 1)]
    return [sys.executable, "-m", SERVE, "tracker", "--host", HOST, *ports]


def server_command(python: str, tracker_port: int, key: str) -> list[str]:
    """The command of an RPC server that ``python`` runs."""
    ports = ["--port", str(FIRST_SERVER_PORT), "--port-end", str(LAST_SERVER_PORT)]
    tracker = ["--tracker", f"{HOST}:{tracker_port}", "--key", key]
    return [python, "-m", SERVE, "server", "--host", HOST, *ports, *tracker]


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose whole group, workers included, ends with the block.

    So do its temporary files: a server that is ended in a session would leave what it was sent.
    """
    with files.temporary_folder() as folder:
        own = {"TVM_NUM_THREADS": str(CORES), "TMPDIR": str(folder)}
        process = subprocess.Popen(
            command,
            env={**os.environ, **own, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(
    reached: Callable[[], bool], processes: list[subprocess.Popen[bytes]], failure: str
) -> None:
    """Wait for ``reached()``. Raises RunFailed when it takes too long or a process ends before."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not reached():
        if any(process.poll() is not None for process in processes):
            raise RunFailed(f"{failure}: it ended at once")
        if time.monotonic() > deadline:
            raise RunFailed(f"{failure} in {START_TIMEOUT_S} s")
        time.sleep(0.1)


def check_free(port: int) -> None:
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise BadInput(
            f"port {port} is taken ({error.strerror}); end what listens there, or choose another"
        ) from None


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True


def free_servers(address: tuple[str, int], key: str) -> int:
    """How many servers the tracker can give away under ``key``."""
    with tvm_runtime.torch_left_out():
        from tvm import rpc

    tracker = rpc.connect_tracker(*address)
    try:
        queues = tracker.summary()["queue_info"]
    finally:
        tracker.close()
    # one that has registered is not free before it has told the tracker so, a moment later
    return int(queues.get(key, {}).get("free", 0))
