"""Building and timing candidates in worker processes that persist.

One process compiles (TVM imported once) while another, alone on a core, times what is ready.
MetaSchedule's LocalBuilder and LocalRunner start Python and TVM anew for every batch;
``benchmarks/tuning_speed.py`` puts both side by side. A candidate that hangs, crashes or computes
something else costs its worker at most; the next one takes over.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cpu
from tvm_mobilenet.tuning.arguments import arguments_of
from tvm_mobilenet.tuning.cores import share_cores
from tvm_mobilenet.tuning.measurer import Batch, BatchResult, Job, Outcome, Statistics
from tvm_mobilenet.tuning.messages import (
    Argument,
    Build,
    BuildTask,
    Done,
    Run,
    RunTask,
    Settings,
)
from tvm_mobilenet.tuning.record_lines import How
from tvm_mobilenet.tuning.worker_process import Died, WorkerProcess

if TYPE_CHECKING:
    import tvm

REFERENCE_TIMEOUT_S = 120.0  # the unscheduled kernel is slow
MAX_GROWTH = 256 << 20  # bytes a worker may grow by: the loader never returns a library's memory
MAX_DRIFT = 0.03  # of the sentinel, before or after a batch, over its best time so far
LOW_WATER = 6  # jobs left to build: about a second, what choosing the next batch takes
MAX_PASSES = 3  # over one batch, when the sentinel drifts
FINAL_ROUNDS = 4
REFERENCE = -1  # the job number of a task's reference


@dataclass
class _Task:
    mod_json: str
    arguments: tuple[Argument, ...]
    folder: Path
    reference_built: bool = False
    broken: str = ""  # why nothing of this task can be measured
    sentinel: str | None = None  # the library of its first good candidate
    sentinel_s: float = float("inf")  # its best time so far
    retired: list[str] = field(default_factory=list)  # sentinels that no longer serve


@dataclass
class _BatchState:
    batch: Batch
    number: int
    libraries: dict[int, str] = field(default_factory=dict)
    failures: dict[int, Outcome] = field(default_factory=dict)
    to_build: deque[int] = field(default_factory=deque)
    to_run: deque[int] = field(default_factory=deque)
    building: int | None = None
    running: int | None = None
    results: dict[int, list[Done]] = field(default_factory=dict)
    before: float | None = None  # the sentinel's time
    after: float | None = None
    passes: int = 0
    drift: float = float("inf")  # of the quietest pass


SENTINEL = -2  # the job number of a sentinel


class LocalMeasurer:
    """Builds and times batches. Use as a context manager; ``submit`` then ``poll`` until done.

    The workers start with the first batch.
    """

    def __init__(self, settings: Settings, timeout_s: float = 10.0) -> None:
        self.statistics = Statistics()
        self.how: How = "native"
        self.cpu = cpu.host_model()
        self._settings = settings
        self._timeout_s = timeout_s
        self._folder = Path(tempfile.mkdtemp(prefix="tvm-mobilenet-"))
        build_cores, run_cores = share_cores(settings.threads)
        self._builder = WorkerProcess("builder", settings, build_cores, self._folder)
        self._runner = WorkerProcess("runner", settings, run_cores, self._folder)
        self._tasks: dict[int, _Task] = {}
        self._batches: deque[_BatchState] = deque()
        self._count = 0

    def __enter__(self) -> LocalMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and remove what they built."""
        self._builder.kill()
        self._runner.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pending(self) -> int:
        """Batches submitted and not yet returned."""
        return len(self._batches)

    @property
    def hungry(self) -> bool:
        """Whether the builder may be idle before another batch is thought out."""
        return sum(len(state.to_build) for state in self._batches) < LOW_WATER and self.pending < 3

    def add_task(self, task: int, mod: tvm.IRModule) -> None:
        """Make the workload ``mod`` (one function, ``main``) known as ``task``."""
        import tvm

        folder = self._folder / f"task{task}"
        folder.mkdir()
        self._tasks[task] = _Task(tvm.ir.save_json(mod), arguments_of(mod), folder)

    def submit(self, batch: Batch) -> None:
        """Queue a batch of a task that ``add_task`` made known."""
        self._count += 1
        for worker in (self._builder, self._runner):
            if not worker.started:  # a run that has nothing to measure starts none
                worker.start()
        state = _BatchState(batch, self._count, to_build=deque(range(len(batch.jobs))))
        self._batches.append(state)

    def stop_building(self) -> None:
        """Forget what is not built yet; the batches end with what is."""
        for state in self._batches:
            state.to_build.clear()

    def poll(self, timeout_s: float) -> list[BatchResult]:
        """Give the workers work, wait at most ``timeout_s`` for answers; the batches that ended.

        Raises RunFailed where a worker cannot be started at all.
        """
        self._dispatch()
        busy = [worker for worker in (self._builder, self._runner) if worker.expecting]
        if busy:
            until = min(worker.deadline for worker in busy)
            pause = max(0.0, min(timeout_s, until - time.monotonic()))
            wait([worker.connection for worker in busy], pause)
            for worker in busy:
                self._receive(worker)
            self._dispatch()
        return self._finished()

    def partial(self) -> list[BatchResult]:
        """What is measured of the batches still pending, for a run that is interrupted."""
        return [self._result(state) for state in self._batches if state.results]

    # ---- giving out work

    def _dispatch(self) -> None:
        if self._builder.idle:
            self._dispatch_build()
        if self._runner.idle:
            self._dispatch_run()

    def _dispatch_build(self) -> None:
        for state in self._batches:
            task = self._tasks[state.batch.task]
            if task.broken or not state.to_build:
                continue
            if state.batch.task not in self._builder.tasks:
                self._builder.tell(BuildTask(state.batch.task, task.mod_json), state.batch.task)
            if not task.reference_built:
                build = Build(REFERENCE, state.batch.task, None, self._reference(task))
                self._builder.ask(build, REFERENCE_TIMEOUT_S, state)
                return
            job = state.to_build.popleft()
            state.building = job
            path = str(task.folder / f"b{state.number}j{job}.so")
            trace_json = state.batch.jobs[job].trace_json
            self._builder.ask(
                Build(job, state.batch.task, trace_json, path), self._timeout_s, state
            )
            return

    def _dispatch_run(self) -> None:
        state = self._next_to_run()
        if state is None:
            return
        job = self._next_job(state)
        if job is None:
            return
        task = self._tasks[state.batch.task]
        timeout = self._timeout_s
        if state.batch.task not in self._runner.tasks:
            # the first answer includes running the reference
            timeout += REFERENCE_TIMEOUT_S
            expected = str(task.folder / "expected.npz")
            description = RunTask(state.batch.task, task.arguments, self._reference(task), expected)
            self._runner.tell(description, state.batch.task)
        library = task.sentinel if job == SENTINEL else state.libraries[job]
        assert library is not None
        # a second pass is for contenders: in a slow moment all of them would be cut off
        contender = job == SENTINEL or state.batch.final or state.passes > 0
        best = None if contender else state.batch.best_s
        state.running = job
        self._runner.ask(Run(job, state.batch.task, library, best), timeout, state)

    def _next_to_run(self) -> _BatchState | None:
        """The first batch, unless it waits for the builder; a final one wants all to be built."""
        for state in self._batches:
            if state.batch.final and (state.to_build or not self._builder.idle):
                if any(other.to_build for other in self._batches) or not self._builder.idle:
                    return None
            if state.to_run or self._all_run(state):
                return state
            if not self._over(state):
                return None
        return None

    def _next_job(self, state: _BatchState) -> int | None:
        guarded = self._tasks[state.batch.task].sentinel is not None and not state.batch.final
        if guarded and state.before is None and state.to_run:
            return SENTINEL
        if state.to_run:
            return state.to_run.popleft()
        if guarded and state.before is not None and state.after is None and self._all_run(state):
            return SENTINEL
        return None

    def _reference(self, task: _Task) -> str:
        return str(task.folder / "reference.so")

    # ---- taking answers

    def _receive(self, worker: WorkerProcess) -> None:
        try:
            answer = worker.receive()
        except Died as death:
            state, job = worker.assignment, worker.job
            worker.start()
            self.statistics.restarts += 1
            if state is not None and job is not None:
                self._settle(worker.kind, state, Done(job, 0.0, 0, death.cause, death.detail))
            return
        if answer is None:
            return
        state = worker.assignment
        worker.assignment = None
        assert state is not None
        grown = worker.grown_by(answer.rss)
        if worker.kind == "builder":
            self.statistics.builder_rss = max(self.statistics.builder_rss, answer.rss)
        else:
            self.statistics.runner_rss = max(self.statistics.runner_rss, answer.rss)
        self._settle(worker.kind, state, answer)
        if grown > MAX_GROWTH:
            worker.start()

    def _settle(self, kind: str, state: _BatchState, done: Done) -> None:
        if kind == "builder":
            self._settle_build(state, done)
        else:
            self._settle_run(state, done)

    def _settle_build(self, state: _BatchState, done: Done) -> None:
        task = self._tasks[state.batch.task]
        if done.job == REFERENCE:
            task.reference_built = done.cause is None
            if done.cause is not None:
                task.broken = f"its unscheduled reference does not build: {done.detail}"
            return
        self.statistics.built += 1
        self.statistics.build_s += done.seconds
        state.building = None
        if done.cause is not None:
            job = state.batch.jobs[done.job]
            state.failures[done.job] = Outcome(job, None, done.cause, done.detail)
            return
        state.libraries[done.job] = str(task.folder / f"b{state.number}j{done.job}.so")
        state.to_run.extend([done.job] * (FINAL_ROUNDS if state.batch.final else 1))
        if state.batch.final and not state.to_build:
            # in rounds, so that a slow moment of the machine meets all alike
            jobs = sorted(state.libraries)
            state.to_run = deque(jobs * FINAL_ROUNDS)

    def _settle_run(self, state: _BatchState, done: Done) -> None:
        task = self._tasks[state.batch.task]
        state.running = None
        if done.job == SENTINEL:
            if done.cause is not None:  # it ran before; whatever it is now, guard without it
                assert task.sentinel is not None
                task.retired.append(task.sentinel)
                task.sentinel = None
                return
            seconds = min(done.medians)
            task.sentinel_s = min(task.sentinel_s, seconds)
            if state.before is None:
                state.before = seconds
            else:
                state.after = seconds
            return
        self.statistics.run += 1
        self.statistics.run_s += done.seconds
        job = state.batch.jobs[done.job]
        if done.cause is not None:
            state.failures[done.job] = Outcome(job, None, done.cause, done.detail)
            state.results.pop(done.job, None)
            state.to_run = deque(one for one in state.to_run if one != done.job)
            return
        state.results.setdefault(done.job, []).append(done)
        seconds = min(done.medians)
        if state.batch.best_s is None or seconds < state.batch.best_s:
            state.batch.best_s = seconds
        if task.sentinel is None:
            task.sentinel = state.libraries[done.job]
            task.sentinel_s = state.before = seconds

    # ---- batches that ended

    def _all_run(self, state: _BatchState) -> bool:
        return not (
            state.to_build
            or state.to_run
            or state.building is not None
            or state.running is not None
        )

    def _over(self, state: _BatchState) -> bool:
        """Whether nothing of the batch is left to do, not even another pass."""
        task = self._tasks[state.batch.task]
        if task.broken:
            return state.building is None and state.running is None
        if not self._all_run(state):
            return False
        guarded = task.sentinel is not None and state.before is not None and not state.batch.final
        if guarded and state.results and state.after is None and len(state.batch.jobs) > 1:
            return False
        return True

    def _finished(self) -> list[BatchResult]:
        finished = []
        while self._batches and self._over(self._batches[0]):
            state = self._batches[0]
            if self._again(state):
                break
            self._batches.popleft()
            finished.append(self._result(state))
            self._clean(state)
        return finished

    def _again(self, state: _BatchState) -> bool:
        """Start another pass over the batch where the sentinel says the machine was busy."""
        task = self._tasks[state.batch.task]
        if task.broken or state.before is None or state.after is None:
            return False
        state.passes += 1
        state.drift = min(state.drift, max(state.before, state.after) / task.sentinel_s - 1)
        if state.drift <= MAX_DRIFT or state.passes >= MAX_PASSES:
            return False
        self.statistics.repeated_batches += state.passes == 1
        contenders = [job for job, runs in sorted(state.results.items()) if not runs[0].cut]
        state.to_run = deque(contenders)
        # the sentinel that closed this pass opens the next
        state.before, state.after = state.after, None
        return bool(contenders)

    def _result(self, state: _BatchState) -> BatchResult:
        broken = self._tasks[state.batch.task].broken
        drift = 0.0 if state.drift == float("inf") else state.drift
        self.statistics.drifts.append(drift)
        outcomes = []
        for number, job in enumerate(state.batch.jobs):
            if number in state.failures:
                outcomes.append(state.failures[number])
            elif number in state.results:
                outcomes.append(_outcome(job, state.results[number]))
            elif broken:
                outcomes.append(Outcome(job, None, "build error", broken))
        return BatchResult(state.batch, outcomes, drift, max(1, state.passes))

    def _clean(self, state: _BatchState) -> None:
        task = self._tasks[state.batch.task]
        for library in (*state.libraries.values(), *task.retired):
            if library != task.sentinel:
                Path(library).unlink(missing_ok=True)
        task.retired.clear()


def _outcome(job: Job, runs: Sequence[Done]) -> Outcome:
    """The best of all passes: what disturbs a measurement only ever adds to it."""
    best = min(runs, key=lambda run: min(run.medians))
    return Outcome(
        job,
        min(best.medians),
        spread=max(best.medians) / min(best.medians) - 1,
        cut=best.cut,
        error=max(run.error for run in runs),
    )
