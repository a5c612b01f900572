"""A worker process as the tuner sees it: started, given work, listened to, killed and replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.tuning.workers.messages import (
    Build,
    BuildTask,
    Cause,
    DeviceAddress,
    Done,
    Hello,
    MakeCase,
    Ready,
    Refused,
    Run,
    RunTask,
    Settings,
    Waiting,
)

START_TIMEOUT_S = 120.0  # importing TVM on a busy machine
DEVICE_TIMEOUT_S = 120.0  # for a device; after that another attempt
MAX_FAILED_STARTS = 2

Kind = Literal["builder", "runner", "device"]


class Died(Exception):
    """A worker ended, or had to be ended, before it answered."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause
        self.detail = detail


class WorkerProcess:
    """One worker process. It takes one job at a time, ``job``, of the batch ``assignment``."""

    def __init__(
        self,
        kind: Kind,
        settings: Settings,
        cores: tuple[int, ...],
        log: Path,
        device: DeviceAddress | None = None,
    ) -> None:
        self.kind = kind
        self.cpu = ""  # of its device
        self.tasks: set[int] = set()
        self.assignment: Any = None
        self.job: int | None = None
        self._hello = Hello(settings, cores, device)
        self._log = log
        self._failed_starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._waiting = False  # for its device
        self._first_rss = 0

    def start(self) -> None:
        """Start the process, in the place of the one before."""
        self.kill()
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TVM_NUM_THREADS": str(self._hello.settings.threads),
        }
        module = "tvm_mobilenet.tuning.workers.worker"
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, self.kind, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the tuner
            )
        self.connection = Connection(ours.detach())
        self.connection.send(self._hello)
        self.tasks = set()
        self.assignment = self.job = None
        self._ready = self._waiting = False
        self._first_rss = 0
        self.deadline = time.monotonic() + START_TIMEOUT_S

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.connection.close()
        self._ready = False

    def dismiss(self) -> None:
        """Let it end by itself; ``kill`` is to follow."""
        if self._process is not None:
            self.connection.close()

    def wait(self, timeout_s: float) -> None:
        """Wait so long at most for the process to end."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(timeout_s, 0.0))

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process while there is one."""
        return self._process

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def ready(self) -> bool:
        """Whether it is up and, where it needs one, has its device."""
        return self._ready

    @property
    def idle(self) -> bool:
        return self._ready and self.assignment is None

    @property
    def expecting(self) -> bool:
        """Whether it owes an answer: to a job, or to its Hello."""
        return self._process is not None and (not self._ready or self.assignment is not None)

    def tell(self, message: BuildTask | RunTask, task: int) -> None:
        with contextlib.suppress(OSError):  # receive() finds out what became of it
            self.connection.send(message)
        self.tasks.add(task)

    def ask(self, message: Build | MakeCase | Run, timeout_s: float, assignment: object) -> None:
        with contextlib.suppress(OSError):  # as in tell()
            self.connection.send(message)
        self.assignment = assignment
        self.job = message.job
        self.deadline = time.monotonic() + timeout_s

    def receive(self) -> Done | None:
        """Its answer to a job if there is one.

        Raises Died; RunFailed where it does not start or its device has no room, BadInput where
        that is no good.
        """
        try:
            if self.connection.poll():
                return self._take(self.connection.recv())
        except (EOFError, OSError):
            raise self._death(self._exit()) from None
        if time.monotonic() < self.deadline:
            return None
        cause: Cause = "build timeout" if self.kind == "builder" else "run timeout"
        raise self._death("no answer in time", cause)

    def grown_by(self, rss: int) -> int:
        """How far it has grown since its first job."""
        self._first_rss = self._first_rss or rss
        return rss - self._first_rss

    def _take(self, message: object) -> Done | None:
        if isinstance(message, Refused):
            raise RunFailed(message.reason) if message.failed else BadInput(message.reason)
        if isinstance(message, Done):
            if not message.ready:
                self._wait_for_device()
            return message
        self._failed_starts = 0
        if isinstance(message, Waiting):
            self._wait_for_device()
        else:
            assert isinstance(message, Ready)
            self._ready, self._waiting, self.cpu = True, False, message.cpu
        return None

    def _wait_for_device(self) -> None:
        self._ready, self._waiting = False, True
        self.deadline = time.monotonic() + DEVICE_TIMEOUT_S

    def _exit(self) -> str:
        assert self._process is not None
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"

    def _death(self, how: str, cause: Cause | None = None) -> Died:
        if not self._ready and not self._waiting:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise RunFailed(
                    f"the {self.kind} process does not start ({how}): {self._last_words()}"
                )
        fallback: Cause = "build error" if self.kind == "builder" else "run error"
        return Died(cause or fallback, f"{self.kind} {how}")

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"
