"""A worker process as the tuner sees it: started, given work, listened to, killed and replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.processes import Child, ChildDied, NoAnswer
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

WORKER = "tvm_mobilenet.tuning.workers.worker"
START_TIMEOUT_S = 120.0  # importing TVM on a busy machine
DEVICE_TIMEOUT_S = 120.0  # for a device; after that another attempt
MAX_FAILED_STARTS = 2
MAX_GROWTH = 256 << 20  # bytes: the loader never returns a library's memory

Kind = Literal["builder", "runner", "device"]


class Died(Exception):
    """A worker ended, or had to be ended, before it answered."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause
        self.detail = detail


@dataclass(frozen=True)
class Heard:
    """A worker's answer to a job of ``assignment``, or what stands for it where it died."""

    assignment: Any
    done: Done


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
        self._child: Child | None = None
        self._ready = False
        self._waiting = False  # for its device
        self._dismissed = False
        self.status: int | None = None  # its exit status, where it ended by itself
        self.restarts = 0  # because it had died, of a job or after one
        self._first_rss = self._last_rss = 0

    def start(self) -> None:
        """Start the process, in the place of the one before."""
        self.kill()
        # a compiler that is killed with it leaves files, which go with the run's own
        own = {"TMPDIR": str(self._log.parent)}
        threads = {"TVM_NUM_THREADS": str(self._hello.settings.threads)}
        self._child = Child(WORKER, [self.kind], self._log, {**own, **threads})
        self._child.send(self._hello)
        self.tasks = set()
        self.assignment = self.job = None
        self._ready = self._waiting = self._dismissed = False
        self._first_rss = self._last_rss = 0
        self.deadline = time.monotonic() + START_TIMEOUT_S

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._ready = False

    def dismiss(self) -> None:
        """Let it end by itself; ``kill`` is to follow."""
        if self._child is not None:
            self._child.close_pipe()
            self._dismissed = True

    def wait_for_dismissed(self, timeout_s: float) -> None:
        """Wait so long at most for one that was dismissed to end; ``status`` then says how."""
        if self._child is not None and self._dismissed:
            self.status = self._child.wait(timeout_s)

    @property
    def started(self) -> bool:
        return self._child is not None

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def connection(self) -> Connection:
        assert self._child is not None, "not started"
        return self._child.connection

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
        return self._child is not None and (not self._ready or self.assignment is not None)

    def tell(self, message: BuildTask | RunTask, task: int) -> None:
        self._send(message)
        self.tasks.add(task)

    def ask(self, message: Build | MakeCase | Run, timeout_s: float, assignment: object) -> None:
        self._send(message)
        self.assignment = assignment
        self.job = message.job
        self.deadline = time.monotonic() + timeout_s

    def hear(self, explain: Callable[[int, Died], Done] | None = None) -> Heard | None:
        """Its answer if there is one; where it died, ``explain`` says, and another is started.

        Raises RunFailed and BadInput as ``receive`` does.
        """
        if not self.expecting:
            return None
        try:
            done = self.receive()
        except Died as death:
            assignment, job = self.assignment, self.job
            self.restarts += job is not None
            self.start()
            if assignment is None or job is None:
                return None
            answer = Done(job, cause=death.cause, detail=death.detail)
            return Heard(assignment, explain(job, death) if explain else answer)
        if done is None:
            return None
        assignment, self.assignment = self.assignment, None
        self._first_rss = self._first_rss or done.rss
        self._last_rss = done.rss
        return Heard(assignment, done)

    def receive(self) -> Done | None:
        """Its answer to a job if there is one.

        Raises Died; RunFailed where it does not start or its device's memory is full, BadInput
        where that device is no good.
        """
        assert self._child is not None, "not started"
        try:
            return self._take(self._child.receive(0))
        except ChildDied as died:
            raise self._death(str(died)) from None
        except NoAnswer:
            if time.monotonic() < self.deadline:
                return None
        cause: Cause = "build timeout" if self.kind == "builder" else "run timeout"
        raise self._death("did not answer in time", cause)

    @property
    def outgrown(self) -> bool:
        """Whether it holds so much more memory than after its first job that it must be renewed."""
        return self._last_rss - self._first_rss > MAX_GROWTH

    def _send(self, message: object) -> None:
        assert self._child is not None, "not started"
        self._child.send(message)  # receive() finds out what became of it

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

    def _death(self, how: str, cause: Cause | None = None) -> Died:
        if not self._ready and not self._waiting:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                said = self._child.last_words() if self._child is not None else ""
                raise RunFailed(
                    f"the {self.kind} process does not start, it {how}: "
                    f"{said or 'it printed nothing'}"
                )
        fallback: Cause = "build error" if self.kind == "builder" else "run error"
        return Died(cause or fallback, f"{self.kind} {how}")
