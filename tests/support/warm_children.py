"""The tuner's workers, and a farm's servers, with TVM imported already: forked from one process
that has done it.

To import TVM takes a second, most of what a worker or a server does in a test. In the place of
``processes.Child`` and of what ``local_farm`` starts; what the commands of the documentation start
is the real one.

Run as a program it is that process: it forks another for every message that it gets, and says how
one has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tvm_mobilenet.emulation import devices
from tvm_mobilenet.processes import Child
from tvm_mobilenet.remote import local_farm, serve
from tvm_mobilenet.tuning.workers import worker, worker_process

WARM_KINDS = ("builder", "device")  # the others import no compiler
PAUSE_S = 0.002  # between two looks at a worker that is waited for

start_cold = local_farm.start_process


@dataclass(frozen=True)
class Fork:
    """Start a worker: its arguments, environment, and where it prints. Answered by its pid.

    Its end of the pipe to the tuner comes beside this message. A server needs none.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    log: str | None
    serves: bool = False


class Parent:
    """The process that forks, as its children's users see it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._connection = Connection(ours.detach())

    def fork(self, asked: Fork, pipe: socket.socket) -> int:
        self._connection.send(asked)
        with socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
            socket.send_fds(ours, [b"\0"], [pipe.fileno()])
        pid: int = self._connection.recv()
        return pid

    def status_of(self, pid: int) -> int | None:
        """Its exit status as ``subprocess`` says it; None where it runs."""
        self._connection.send(pid)
        status: int | None = self._connection.recv()
        return status

    def close(self) -> None:
        self._connection.close()
        self._process.wait()


class ForkedProcess:
    """What ``Child`` asks of a process."""

    def __init__(self, parent: Parent, pid: int) -> None:
        self.pid = pid
        self._parent = parent
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._parent.status_of(self.pid)
        return self._status

    def wait(self, timeout: float = float("inf")) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(PAUSE_S)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class WarmChild(Child):
    """A worker that was forked."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if arguments[0] not in WARM_KINDS:
            super().__init__(module, arguments, log, environment)
            return
        self._log = log
        # what the dynamic linker reads when a process starts is its parent's
        parent = parent_with(os.environ.get("LD_LIBRARY_PATH"))
        ours, theirs = socket.socketpair()
        with theirs:
            asked = Fork(
                tuple(arguments),
                {**os.environ, **(environment or {})},
                os.getcwd(),
                None if log is None else str(log),
            )
            process: Any = ForkedProcess(parent, parent.fork(asked, theirs))
        self._process = process
        self.connection = Connection(ours.detach())


def start_warm(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Any:
    """A farm's process that was forked; one of an environment of its own is started."""
    python, _, module, *arguments = command
    if environment or (python, module) != (sys.executable, devices.SERVE):
        return start_cold(command, folder, environment)
    parent = parent_with(os.environ.get("LD_LIBRARY_PATH"))
    own = {"TVM_NUM_THREADS": "1", "TMPDIR": str(folder)}
    asked = Fork(tuple(arguments), {**os.environ, **own}, os.getcwd(), os.devnull, serves=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return ForkedProcess(parent, parent.fork(asked, theirs))


@cache
def parent_with(_library_path: str | None) -> Parent:
    """The process that forks workers with this environment, kept as long as this one."""
    parent = Parent()
    atexit.register(parent.close)
    return parent


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Workers and servers that are started meanwhile are forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "Child", WarmChild)
        patch.setattr(local_farm, "start_process", start_warm)
        yield


# ---- the process that forks


def fork_all() -> None:
    """Fork what is asked for until the pipe closes, and end with all that was forked."""
    import_all()
    connection = Connection(int(sys.argv[1]))
    running: set[int] = set()
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            asked = connection.recv()
            if isinstance(asked, Fork):
                pid = fork(asked, connection)
                running.add(pid)
                connection.send(pid)
            else:
                ended, status = os.waitpid(asked, os.WNOHANG)
                running.discard(ended)
                connection.send(os.waitstatus_to_exitcode(status) if ended else None)


def import_all() -> None:
    from tvm_mobilenet import tvm_runtime

    with tvm_runtime.torch_left_out():
        import tvm.rpc.server  # noqa: F401
        import tvm.rpc.tracker  # noqa: F401

    import tvm_mobilenet.tuning.workers.device_worker  # noqa: F401


def fork(asked: Fork, connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as theirs:
        _, (pipe,), *_ = socket.recv_fds(theirs, 1, 1)
    pid = os.fork()
    if pid:
        os.close(pipe)
        return pid
    try:
        os.setsid()
        connection.close()
        os.chdir(asked.folder)
        os.environ.clear()
        os.environ.update(asked.environment)
        tempfile.tempdir = None  # as in a new process
        if asked.log is not None:
            log = os.open(asked.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
        if asked.serves:
            os.close(pipe)
            serve.main(asked.arguments)
        else:
            sys.argv = [worker.__file__, *asked.arguments, str(pipe)]
            worker.main()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:  # as Python ends with what nobody handled
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    from support import warm_children  # whose messages these are

    warm_children.fork_all()
