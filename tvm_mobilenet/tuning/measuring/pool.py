"""Building and measuring batches in worker processes that persist.

Builders compile, TVM imported once, while lanes measure what is ready. A batch is measured by one
lane from its first candidate to its last, so that its times compare. A candidate that hangs,
crashes or computes something else costs its worker at most; the next one takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.provenance import How
from tvm_mobilenet.tuning.measuring.batches import BatchState, TaskState
from tvm_mobilenet.tuning.measuring.builders import Builders
from tvm_mobilenet.tuning.measuring.lanes import Lane
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Statistics
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.messages import Done, Settings
from tvm_mobilenet.tuning.workers.scratch import Scratch
from tvm_mobilenet.tuning.workers.worker_process import Kind, WorkerProcess

if TYPE_CHECKING:
    import tvm

LOW_WATER = 6  # jobs left for each builder: about a second, what choosing the next batch takes
FAREWELL_S = 2.0  # for devices' workers to end their sessions


class PoolMeasurer:
    """Builders and lanes. Use as a context manager; ``submit``, then ``poll`` until done.

    The workers start with the first batch. ``folder`` holds what they build.
    """

    lanes_share_cores = True  # with the builders: a final batch then waits until they are done

    def __init__(self, settings: Settings, timeout_s: float, how: How, cpu: str) -> None:
        self.statistics = Statistics()
        self.notes: list[str] = []
        self.how: How = how
        self.cpu = cpu
        self.builders = Builders([], timeout_s, self.statistics)
        self.lanes: list[Lane] = []
        self._settings = settings
        self._timeout_s = timeout_s
        self._scratch = Scratch()
        self._tasks: dict[int, TaskState] = {}
        self._batches: deque[BatchState] = deque()
        self._count = 0

    def __enter__(self) -> PoolMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and remove what they built."""
        for lane in self.lanes:
            lane.dismiss()
        deadline = time.monotonic() + FAREWELL_S
        for lane in self.lanes:
            lane.worker.wait_for_dismissed(deadline - time.monotonic())
        for worker in self.workers:
            worker.kill()
        self._scratch.remove()

    @property
    def folder(self) -> Path:
        return self._scratch.path

    @property
    def workers(self) -> Sequence[WorkerProcess]:
        """Every worker process, started or not."""
        return [*self.builders.workers, *(lane.worker for lane in self.lanes)]

    @property
    def pending(self) -> int:
        """Batches submitted and not yet returned."""
        return len(self._batches)

    @property
    def hungry(self) -> bool:
        """Whether a builder may be idle before another batch is thought out."""
        left = sum(len(state.to_build) for state in self._batches)
        low = left < LOW_WATER * len(self.builders.workers)
        return low and self.pending < 2 * len(self.lanes) + 1

    def add_task(self, task: int, mod: tvm.IRModule) -> None:
        """Make the workload ``mod`` (one function, ``main``) known as ``task``."""
        import tvm

        folder = self._scratch.path / f"task{task}"
        folder.mkdir()
        self._tasks[task] = TaskState(tvm.ir.save_json(mod), arguments_of(mod), folder)

    def submit(self, batch: Batch) -> None:
        """Queue a batch of a task that ``add_task`` made known."""
        self._count += 1
        for worker in self.workers:
            if not worker.started:  # a run that has nothing to measure starts none
                worker.start()
        jobs = deque(range(len(batch.jobs)))
        self._batches.append(BatchState(batch, self._count, self._tasks[batch.task], jobs))

    def stop_building(self) -> None:
        """Forget what is not built yet; the batches end with what is."""
        for state in self._batches:
            state.to_build.clear()

    def poll(self, timeout_s: float) -> list[BatchResult]:
        """Give the workers work, wait at most ``timeout_s`` for answers; the batches that ended.

        Raises RunFailed where a worker cannot be started at all.
        """
        self._dispatch()
        self._wait(timeout_s)
        self.builders.receive()
        for lane in self.lanes:
            done, unneeded = lane.receive()
            for library in unneeded:
                self._retire(library)
            if done is not None and done.lost:
                self.note_lost(done)
        self.statistics.restarts = sum(worker.restarts for worker in self.workers)
        self._dispatch()
        return self._take_finished()

    def partial(self) -> list[BatchResult]:
        """What is measured of the batches still pending, for a run that ends before they do."""
        return [state.result() for state in self._batches if state.results]

    def note_lost(self, done: Done) -> None:
        """Something that was asked of a lane was lost with its device."""

    def make_worker(self, kind: Kind, cores: tuple[int, ...], number: int = 0) -> WorkerProcess:
        """A worker of this pool, not started yet."""
        log = self._scratch.path / f"{kind}{number}.log"
        return WorkerProcess(kind, self._settings, cores, log)

    def _wait(self, timeout_s: float) -> None:
        busy = [worker for worker in self.workers if worker.expecting]
        until = min([worker.deadline for worker in busy], default=float("inf"))
        pause = max(0.0, min(timeout_s, until - time.monotonic()))
        if self._batches:
            wait([worker.connection for worker in busy], pause)

    def _dispatch(self) -> None:
        self.builders.dispatch(self._batches)
        for lane in self.lanes:
            if not lane.worker.idle:
                continue
            if lane.batch is None and (state := self._find_waiting()) is not None:
                lane.take(state)
            lane.dispatch(self._timeout_s)

    def _find_waiting(self) -> BatchState | None:
        """The first batch that no lane has and of which something can be run."""
        building = any(state.builds for state in self._batches)
        for state in self._batches:
            if state.batch.final and self.lanes_share_cores and building:
                return None
            if state.sentinels is None and state.to_run and state.task.reference:
                return state
        return None

    def _take_finished(self) -> list[BatchResult]:
        finished = []
        for state in [one for one in self._batches if one.over]:
            if state.begin_another_pass():
                self.statistics.repeated_batches += state.passes == 1
                continue
            result = state.result()
            if state.passes:  # it had a sentinel before and after
                self.statistics.drifts.append(result.drift)
            finished.append(result)
            self._batches.remove(state)
            for lane in self.lanes:
                if lane.batch is state:
                    lane.batch = None
            for job in range(len(state.batch.jobs)):  # one that was given up may have left its own
                self._retire(state.library(job))
        return finished

    def _retire(self, library: str) -> None:
        """Remove a library, unless something still needs it."""
        kept = any(lane.keeps(library) for lane in self.lanes)
        if not kept and not any(library in one.libraries.values() for one in self._batches):
            for path in (library, f"{library}.o"):
                Path(path).unlink(missing_ok=True)
