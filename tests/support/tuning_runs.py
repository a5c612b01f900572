"""Whole tuning runs over test kernels, into a folder."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from support import tuning_kernels
from support.tuning_kernels import SETTINGS, SPEC, Kernel, matmul

from tvm_mobilenet.database.store import Records
from tvm_mobilenet.tuning import loop
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.request import Budget
from tvm_mobilenet.tuning.search.state import State, Task
from tvm_mobilenet.tuning.search.tasks import make_tasks


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def batch(self, state: State, task: Task, drift: float) -> None:
        pass

    def tick(self, state: State) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


class Interrupting(Quiet):
    """Presses Ctrl-C after the first batch."""

    def batch(self, state: State, task: Task, drift: float) -> None:
        if state.phase == "searching":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)


def tune_into(
    folder: Path,
    kernels: list[Kernel],
    watcher: Any = None,
    budget: Budget | None = None,
    **options: Any,
) -> State:
    tuning_kernels.register()
    with Records.open(folder, SPEC, writable=True) as opened:
        tasks, skipped = make_tasks(kernels, SPEC.tvm_target(), opened, **options)
        state = State(tasks, budget or Budget(), skipped=skipped)
        with LocalMeasurer(SETTINGS, 3.0) as measurer:
            loop.run(state, opened, SETTINGS, measurer, watcher or Quiet())
    return state


def keys(folder: Path) -> list[tuple[int, str]]:
    return [(one.workload, one.trace_key) for one in Records.open(folder, SPEC).records]


def hopeless() -> Kernel:
    """Its reference does not even build."""
    kernel = matmul(8, 32, 16)
    func = kernel.func.with_attrs({"unbuildable": True})
    return Kernel("hopeless", func, 1, 1)
