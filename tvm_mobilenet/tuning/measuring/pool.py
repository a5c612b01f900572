"""Building and measuring batches in worker processes that persist.

Builders compile, TVM imported once, while lanes measure what is ready. A batch is measured by one
lane from its first candidate to its last, so that its times compare. A candidate that hangs,
crashes or computes something else costs its worker at most; the next one takes over.
"""

from __future__ import annotations

import time
from collections import deque
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.provenance import How
from tvm_mobilenet.tuning.measuring.batches import SENTINEL, BatchState, Lane, TaskState
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Statistics
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.messages import (
    Build,
    BuildTask,
    Done,
    MakeCase,
    Run,
    RunTask,
    Settings,
)
from tvm_mobilenet.tuning.workers.scratch import Scratch
from tvm_mobilenet.tuning.workers.worker_process import Died, Kind, WorkerProcess

if TYPE_CHECKING:
    import tvm

CASE_TIMEOUT_S = 120.0  # an unscheduled kernel is slow
PREPARE_S = 60.0  # more for a runner's first candidate of a task: its arguments
MAX_GROWTH = 256 << 20  # bytes a worker may grow by: the loader never returns a library's memory
LOW_WATER = 6  # jobs left for each builder: about a second, what choosing the next batch takes
FAREWELL_S = 2.0  # for devices' workers to end their sessions
CASE = -1  # the job number of making a task's case


class PoolMeasurer:
    """Builders and lanes. Use as a context manager; ``submit``, then ``poll`` until done.

    The workers start with the first batch.
    """

    lanes_share_cores = True  # with the builders: a final batch then waits until they are done

    def __init__(self, settings: Settings, timeout_s: float, how: How, cpu: str) -> None:
        self.statistics = Statistics()
        self.notes: list[str] = []
        self.how: How = how
        self.cpu = cpu
        self._settings = settings
        self._timeout_s = timeout_s
        self._scratch = Scratch()
        self._builders: list[WorkerProcess] = []
        self._lanes: list[Lane] = []
        self._objects: tuple[str, ...] = ()  # linked into every candidate
        self._tasks: dict[int, TaskState] = {}
        self._batches: deque[BatchState] = deque()
        self._count = 0

    def __enter__(self) -> PoolMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and remove what they built."""
        # TVM's RPC server does not survive a session that is cut off with an answer on its way
        devices = [worker for worker in self.workers if worker.kind == "device"]
        for worker in devices:
            worker.dismiss()
        deadline = time.monotonic() + FAREWELL_S
        for worker in devices:
            worker.wait(deadline - time.monotonic())
        for worker in self.workers:
            worker.kill()
        self._scratch.remove()

    @property
    def pending(self) -> int:
        """Batches submitted and not yet returned."""
        return len(self._batches)

    @property
    def hungry(self) -> bool:
        """Whether a builder may be idle before another batch is thought out."""
        left = sum(len(state.to_build) for state in self._batches)
        return left < LOW_WATER * len(self._builders) and self.pending < 2 * len(self._lanes) + 1

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
        busy = [worker for worker in self.workers if worker.expecting]
        until = min([worker.deadline for worker in busy], default=float("inf"))
        pause = max(0.0, min(timeout_s, until - time.monotonic()))
        if self._batches:
            wait([worker.connection for worker in busy], pause)
        for builder in self._builders:
            self._receive(builder, None)
        for lane in self._lanes:
            self._receive(lane.worker, lane)
        self._dispatch()
        return self._finished()

    def partial(self) -> list[BatchResult]:
        """What is measured of the batches still pending, for a run that ends before they do."""
        return [state.result() for state in self._batches if state.results]

    @property
    def workers(self) -> list[WorkerProcess]:
        """Every worker, started or not."""
        return [*self._builders, *(lane.worker for lane in self._lanes)]

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Where batches are measured; a farm gets more of them as devices come."""
        return tuple(self._lanes)

    @property
    def folder(self) -> Path:
        """Where what is built lies until it is measured."""
        return self._scratch.path

    def _worker(self, kind: Kind, cores: tuple[int, ...], number: int = 0) -> WorkerProcess:
        return WorkerProcess(
            kind, self._settings, cores, self._scratch.path / f"{kind}{number}.log"
        )

    # ---- giving out work

    def _dispatch(self) -> None:
        for builder in self._builders:
            if builder.idle:
                self._dispatch_build(builder)
        for lane in self._lanes:
            if lane.worker.idle:
                self._dispatch_run(lane)

    def _dispatch_build(self, builder: WorkerProcess) -> None:
        for state in self._batches:
            task, number = state.task, state.batch.task
            if task.broken or not state.to_build:
                continue
            if number not in builder.tasks:
                builder.tell(BuildTask(number, task.mod_json), number)
            if not task.case_begun:
                task.case_begun = True
                make = MakeCase(CASE, number, task.arguments, task.case)
                builder.ask(make, CASE_TIMEOUT_S, state)
                return
            job = state.to_build.popleft()
            state.building.add(job)
            trace_json = state.batch.jobs[job].trace_json
            build = Build(job, number, trace_json, self._library(state, job), self._objects)
            builder.ask(build, self._timeout_s, state)
            return

    def _dispatch_run(self, lane: Lane) -> None:
        if lane.batch is None and (state := self._waiting_batch()) is not None:
            lane.batch, state.lane, state.cpu = state, lane, lane.worker.cpu
        if lane.batch is None:
            return
        state = lane.batch
        job = state.next_job()
        if job is None:
            return
        timeout, number = self._timeout_s, state.batch.task
        if number not in lane.worker.tasks:
            timeout += PREPARE_S
            lane.worker.tell(RunTask(number, state.task.arguments, state.task.case), number)
        # a second pass is for contenders: in a slow moment all of them would be cut off
        contender = job == SENTINEL or state.batch.final or state.passes > 0
        state.running = job
        library = lane.sentinels[number].library if job == SENTINEL else state.libraries[job]
        best_s = None if contender else state.batch.best_s
        run = Run(job, number, library, best_s, self._timeout_s, keep=job == SENTINEL)
        lane.worker.ask(run, self._patience(timeout), state)

    def _patience(self, timeout_s: float) -> float:
        """How long to wait for the answer to a run that may take ``timeout_s``."""
        return timeout_s

    def _waiting_batch(self) -> BatchState | None:
        """The first batch that no lane has and of which something can be run."""
        for state in self._batches:
            if state.batch.final and self.lanes_share_cores and self._building:
                return None
            if state.lane is None and state.to_run and state.task.reference:
                return state
        return None

    @property
    def _building(self) -> bool:
        """Whether a builder has, or is about to get, something to do."""
        return any(
            (state.to_build and not state.task.broken) or state.building for state in self._batches
        )

    def _library(self, state: BatchState, job: int) -> str:
        return str(state.task.folder / f"b{state.number}j{job}.so")

    # ---- taking answers

    def _receive(self, worker: WorkerProcess, lane: Lane | None) -> None:
        if not worker.expecting:
            return
        try:
            done = worker.receive()
        except Died as death:
            state, job = worker.assignment, worker.job
            worker.start()
            self.statistics.restarts += job is not None
            if state is not None and job is not None:
                self._settle(lane, state, self._answer_of_dead(worker.kind, job, death))
            return
        if done is None:
            return
        state, worker.assignment = worker.assignment, None
        grown = worker.grown_by(done.rss)
        if lane is None:
            self.statistics.builder_rss = max(self.statistics.builder_rss, done.rss)
        else:
            self.statistics.runner_rss = max(self.statistics.runner_rss, done.rss)
        self._settle(lane, state, done)
        if grown > MAX_GROWTH:
            worker.start()
            if lane is not None and worker.kind == "device":
                self._forget_sentinels(lane)

    def _answer_of_dead(self, kind: str, job: int, death: Died) -> Done:
        return Done(job, cause=death.cause, detail=death.detail)

    def _settle(self, lane: Lane | None, state: BatchState, done: Done) -> None:
        if lane is None:
            self._settle_build(state, done)
        elif done.lost:
            self._lose(lane, state, done)
        else:
            self._settle_run(lane, state, done)
            if not done.ready:
                self._forget_sentinels(lane)

    def _settle_build(self, state: BatchState, done: Done) -> None:
        if done.job == CASE:
            state.task.reference = done.detail if done.cause is None else ""
            if done.cause is not None:
                state.task.broken = f"what it must compute is not known: {done.detail}"
            return
        self.statistics.built += 1
        self.statistics.build_s += done.seconds
        state.take_built(done, self._library(state, done.job))

    def _settle_run(self, lane: Lane, state: BatchState, done: Done) -> None:
        state.running = None
        if done.job != SENTINEL:
            self.statistics.run += 1
            self.statistics.run_s += done.seconds
            state.take_run(done)
        elif done.cause is None:
            state.take_sentinel(lane.sentinels[state.batch.task], done)
        else:  # it ran before; whatever it is now, guard without it
            self._retire(lane.sentinels.pop(state.batch.task).library)

    def _lose(self, lane: Lane, state: BatchState, done: Done) -> None:
        """The lane's device is gone: its batch goes on elsewhere, its sentinels end."""
        lane.batch = None
        self._forget_sentinels(lane)
        state.leave_lane(done.detail)

    def _forget_sentinels(self, lane: Lane) -> None:
        """The lane's next device may be another."""
        libraries = [sentinel.library for sentinel in lane.sentinels.values()]
        lane.sentinels.clear()
        if lane.batch is not None:
            lane.batch.before = lane.batch.after = None
        for library in libraries:
            self._retire(library)

    # ---- batches that ended

    def _finished(self) -> list[BatchResult]:
        finished = []
        for state in [one for one in self._batches if one.over]:
            if state.again():
                self.statistics.repeated_batches += state.passes == 1
                continue
            result = state.result()
            if state.passes:  # it had a sentinel before and after
                self.statistics.drifts.append(result.drift)
            finished.append(result)
            self._batches.remove(state)
            if state.lane is not None:
                state.lane.batch = None
            for job in range(len(state.batch.jobs)):  # one that was given up may have left its own
                self._retire(self._library(state, job))
        return finished

    def _retire(self, library: str) -> None:
        """Remove a library, unless it is still wanted."""
        kept = any(lane.keeps(library) for lane in self._lanes)
        if not kept and not any(library in one.libraries.values() for one in self._batches):
            for path in (library, f"{library}.o"):
                Path(path).unlink(missing_ok=True)
