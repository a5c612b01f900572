"""Batches on their way through building and measuring: what is left of each, when it is over."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job, Outcome
from tvm_mobilenet.tuning.workers.messages import Argument, Cause, Done

MAX_DRIFT = 0.03  # of the sentinel, before or after a batch, over its best time so far
MAX_PASSES = 3  # over one batch, when the sentinel drifts
MAX_LOST = 2  # devices that a candidate may take with it
FINAL_ROUNDS = 4
SENTINEL = -2  # the job number of a sentinel


@dataclass
class Sentinel:
    """A good candidate that is run before and after every batch of its task."""

    library: str
    best_s: float


@dataclass
class TaskState:
    """A workload as the workers get it. ``case`` is the file with its arguments' values."""

    mod_json: str
    arguments: tuple[Argument, ...]
    folder: Path
    case_begun: bool = False
    reference: str = ""  # where the right outputs are from, once they are there
    broken: str = ""  # why nothing of this task can be measured

    @property
    def case(self) -> str:
        return str(self.folder / "case.npz")


@dataclass
class BatchState:
    """A batch and its jobs by number; ``sentinels`` are its lane's, None while it has no lane."""

    batch: Batch
    number: int
    task: TaskState
    to_build: deque[int]
    building: set[int] = field(default_factory=set)
    libraries: dict[int, str] = field(default_factory=dict)
    to_run: deque[int] = field(default_factory=deque)
    running: int | None = None
    results: dict[int, list[Done]] = field(default_factory=dict)
    failures: dict[int, Outcome] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)  # devices, by the job that ran there
    sentinels: dict[int, Sentinel] | None = None
    cpu: str = ""  # of the device it was measured on
    before: float | None = None  # the sentinel's time
    after: float | None = None
    passes: int = 0
    drift: float = float("inf")  # of the quietest pass

    @property
    def sentinel(self) -> Sentinel | None:
        """What guards the batch where it is; a final one is guarded by its rounds."""
        if self.sentinels is None or self.batch.final:
            return None
        return self.sentinels.get(self.batch.task)

    @property
    def builds(self) -> bool:
        """Whether a builder has, or is about to get, something to do for it."""
        return bool((self.to_build and not self.task.broken) or self.building)

    @property
    def all_run(self) -> bool:
        return not (self.to_build or self.building or self.to_run or self.running is not None)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do in this pass."""
        if self.task.broken:
            return not self.building and self.running is None
        if not self.all_run:
            return False
        closing = self.sentinel is not None and self.before is not None and self.after is None
        return not (closing and self.results and len(self.batch.jobs) > 1)

    def next_job(self) -> int | None:
        """The job to run now, or the sentinel; None where the builder is waited for."""
        guarded = self.sentinel is not None
        if guarded and self.before is None and self.to_run:
            return SENTINEL
        if self.to_run:
            return self.to_run.popleft()
        if guarded and self.before is not None and self.after is None and self.all_run:
            return SENTINEL
        return None

    def fail(self, number: int, cause: Cause, detail: str) -> None:
        job = self.batch.jobs[number]
        self.failures[number] = Outcome(job, None, cause, detail)
        self.results.pop(number, None)
        self.to_run = deque(one for one in self.to_run if one != number)

    def library(self, job: int) -> str:
        """Where a job's shared library is built."""
        return str(self.task.folder / f"b{self.number}j{job}.so")

    def take_built(self, done: Done) -> None:
        """A builder's answer; a final batch's rounds begin when all of it is built."""
        self.building.discard(done.job)
        if done.cause is not None:
            self.fail(done.job, done.cause, done.detail)
        else:
            self.libraries[done.job] = self.library(done.job)
            self.to_run.append(done.job)
        if self.batch.final and not self.to_build and not self.building:
            self._line_up_rounds()

    def take_run(self, done: Done) -> None:
        """A job's answer; the first good one becomes the lane's sentinel."""
        if done.cause is not None:
            self.fail(done.job, done.cause, done.detail)
            return
        self.results.setdefault(done.job, []).append(done)
        seconds = min(done.medians)
        if self.batch.best_s is None or seconds < self.batch.best_s:
            self.batch.best_s = seconds
        if self.sentinels is not None and self.batch.task not in self.sentinels:
            self.sentinels[self.batch.task] = Sentinel(self.libraries[done.job], seconds)
            self.before = seconds

    def take_sentinel(self, sentinel: Sentinel, done: Done) -> None:
        seconds = min(done.medians)
        sentinel.best_s = min(sentinel.best_s, seconds)
        if self.before is None:
            self.before = seconds
        else:
            self.after = seconds

    def leave_lane(self, detail: str) -> None:
        """Its device went: what has no time yet is for another, unless it takes too many along."""
        number, self.running = self.running, None
        self.sentinels = self.before = self.after = None
        if number is not None and number != SENTINEL:
            self.lost[number] += 1
            if self.lost[number] >= MAX_LOST:
                self.fail(number, "device lost", f"{self.lost[number]} devices: {detail}")
            else:
                self.to_run.appendleft(number)
        if self.batch.final:
            # side by side means on one device
            self.results.clear()
            self._line_up_rounds()

    def begin_another_pass(self) -> bool:
        """Begin one where the sentinel says that the machine was busy; whether it was."""
        sentinel = self.sentinel
        if self.task.broken or sentinel is None or self.before is None or self.after is None:
            return False
        self.passes += 1
        self.drift = min(self.drift, max(self.before, self.after) / sentinel.best_s - 1)
        if self.drift <= MAX_DRIFT or self.passes >= MAX_PASSES:
            return False
        self.to_run = deque(job for job, runs in sorted(self.results.items()) if not runs[0].cut)
        # the sentinel that closed this pass opens the next
        self.before, self.after = self.after, None
        return bool(self.to_run)

    def result(self) -> BatchResult:
        drift = 0.0 if self.drift == float("inf") else self.drift
        outcomes = []
        for number, job in enumerate(self.batch.jobs):
            if number in self.failures:
                outcomes.append(self.failures[number])
            elif number in self.results:
                outcomes.append(self._outcome(job, self.results[number]))
            elif self.task.broken:
                outcomes.append(Outcome(job, None, "build error", self.task.broken))
        return BatchResult(self.batch, outcomes, drift, max(1, self.passes))

    def _line_up_rounds(self) -> None:
        """In rounds, so that a slow moment of the machine meets all alike."""
        good = [number for number in sorted(self.libraries) if number not in self.failures]
        self.to_run = deque(good * FINAL_ROUNDS)

    def _outcome(self, job: Job, runs: Sequence[Done]) -> Outcome:
        """The best of all passes: what disturbs a measurement only ever adds to it."""
        best = min(runs, key=lambda run: min(run.medians))
        return Outcome(
            job,
            min(best.medians),
            spread=max(best.medians) / min(best.medians) - 1,
            cut=best.cut,
            error=max(run.error for run in runs),
            reference=self.task.reference,
            cpu=self.cpu,
        )
