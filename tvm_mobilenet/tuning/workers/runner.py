"""The worker that checks and times compiled candidates on this machine."""

from __future__ import annotations

import gc
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.memory import resident_bytes
from tvm_mobilenet.tuning.workers.arguments import Arguments
from tvm_mobilenet.tuning.workers.messages import Done, Run, RunTask, Settings
from tvm_mobilenet.tuning.workers.timing import block_of, time_kernel, walk

KEPT_TASKS = 4  # whose arguments a runner keeps in memory


class Runner:
    """Checks and times compiled candidates."""

    def __init__(self, settings: Settings) -> None:
        from tvm_mobilenet import tvm_runtime
        from tvm_mobilenet.runtime import threads

        tvm_runtime.library()
        if cpu.TILES in cpu.host_features() and not cpu.permit_tiles():
            raise RunFailed("this system gives no permission for AMX; use Linux 5.16 or later")
        threads.use(settings.threads)
        self._load: Callable[[str], Any] = tvm_runtime.ffi().load_module
        self._settings = settings
        self._descriptions: dict[int, RunTask] = {}
        self._prepared: OrderedDict[int, Arguments] = OrderedDict()
        self._last_task: int | None = None
        gc.disable()  # it would run in the middle of a timing

    def handle(self, message: RunTask | Run) -> Done | None:
        if isinstance(message, RunTask):
            self._descriptions[message.task] = message
            return None
        start = time.perf_counter()
        done = self._run(message)
        gc.collect()
        return replace(done, seconds=time.perf_counter() - start, rss=resident_bytes())

    def _run(self, job: Run) -> Done:
        arguments = self._arguments(job.task)
        settings = self._settings
        try:
            kernel = self._load(job.library)["main"]
            arguments.poison_outputs()
            kernel(*arguments.rotation[0])
        except Exception as error:  # TVM's errors are of many types
            detail = str(error).strip()[-200:]
            return Done(job.job, cause="run error", detail=detail)
        wrong, error_norm = arguments.check(settings.tolerance)
        if wrong:
            # it may have written over its inputs too
            del self._prepared[job.task]
            return Done(job.job, cause="wrong result", detail=wrong)
        if job.task != self._last_task:
            # else the first candidate alone would find its weights in memory, the others in L3
            walk(kernel, arguments.rotation)
            self._last_task = job.task
        block = block_of(kernel, arguments.rotation)
        medians, cut = time_kernel(block, job.best_s, settings)
        return Done(job.job, medians=tuple(medians), cut=cut, error=error_norm)

    def _arguments(self, task: int) -> Arguments:
        if task not in self._prepared:
            while len(self._prepared) >= KEPT_TASKS:
                self._prepared.popitem(last=False)
            description = self._descriptions[task]
            self._prepared[task] = Arguments(description, cold=self._settings.cold)
        self._prepared.move_to_end(task)
        return self._prepared[task]
