"""The tuning loop: which task gets the next batch, what came of it, when it is enough.

``tune`` is the command around it. Everything measured is in the records before the next batch is
looked at, so the loop may be stopped at any moment.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tvm_mobilenet import cpu, tvm_runtime
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.measure import Batch, BatchResult, Job, Measurer, Outcome
from tvm_mobilenet.measure_messages import Settings
from tvm_mobilenet.record_lines import RecordInfo
from tvm_mobilenet.record_store import Failed, Measured, Record, Records, now
from tvm_mobilenet.search import CostModel, Search
from tvm_mobilenet.space import Candidate, KernelSpace, NoRule, Rejected

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target

BATCH = 12  # candidates: about one second of building
FINALISTS = 3  # fastest schedules of a task that are measured once more, beside its default
FINAL_S = 1.0  # about what that takes for one task
MIN_SHARE = 0.25  # of an equal split: what even the smallest task gets
IMPROVEMENT = 0.005  # a smaller gain counts as none for early stopping
SEEDS = 4  # best schedules of each older record folder that are tried first
POLL_S = 0.25


class Workload(Protocol):
    """What is tuned: a pipeline.Kernel."""

    @property
    def name(self) -> str: ...
    @property
    def func(self) -> tirx.PrimFunc: ...
    @property
    def count(self) -> int: ...
    @property
    def flops(self) -> int: ...


@dataclass(frozen=True)
class Budget:
    """When to stop; None means no such limit. ``time_s`` counts from the start of the loop."""

    trials: int | None = None
    trials_per_task: int | None = None
    time_s: float | None = None
    early_stopping: int | None = None  # trials of a task without a gain


@dataclass
class Task:
    """One workload and how far its search is. Times in seconds for one call."""

    number: int
    name: str
    count: int
    flops: int
    space: KernelSpace
    search: Search
    share: float = 0.0
    trials: int = 0  # with those of the runs it resumes
    new: int = 0  # in this run
    in_flight: int = 0
    since_gain: int = 0
    best_s: float | None = None
    best: Candidate | None = None
    default_s: float | None = None
    measured: dict[str, tuple[float, Candidate]] = field(default_factory=dict)
    seeds: dict[str, str] = field(default_factory=dict)  # trace key → the folder it came from
    failures: Counter[str] = field(default_factory=Counter)
    ended: str = ""  # why no more is tried

    @property
    def gflops(self) -> float:
        return self.flops / self.best_s / 1e9 if self.best_s else 0.0

    @property
    def gain(self) -> float | None:
        """How many times faster than the default the best is."""
        return self.default_s / self.best_s if self.default_s and self.best_s else None


@dataclass
class State:
    """A tuning run as progress shows it and the summary tells it. Times in seconds."""

    tasks: list[Task]
    budget: Budget
    started: float = field(default_factory=time.monotonic)
    trials: int = 0  # in this run
    records: int = 0  # written by this run
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # cause → its first detail
    curve: list[tuple[float, float]] = field(default_factory=list)  # elapsed, network's kernels
    skipped: list[str] = field(default_factory=list)
    phase: str = "searching"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def network_s(self) -> float | None:
        """One inference as the sum of its kernels' best times; None until each has one."""
        if not self.tasks or any(task.best_s is None for task in self.tasks):
            return None
        return sum(task.count * (task.best_s or 0.0) for task in self.tasks)

    @property
    def default_s(self) -> float | None:
        """The same with the schedules that need no tuning."""
        if not self.tasks or any(task.default_s is None for task in self.tasks):
            return None
        return sum(task.count * (task.default_s or 0.0) for task in self.tasks)

    @property
    def time_left(self) -> float | None:
        """Until the budget's time, or at this pace its trials, are used up."""
        left = []
        if self.budget.time_s is not None:
            left.append(self.budget.time_s - self.elapsed)
        if self.budget.trials is not None and self.trials:
            left.append((self.budget.trials - self.trials) * self.elapsed / self.trials)
        return max(0.0, min(left)) if left else None


class Progress(Protocol):
    """What watches a run."""

    def batch(self, state: State, task: Task, drift: float) -> None: ...
    def tick(self, state: State) -> None: ...
    def note(self, text: str) -> None: ...


def make_tasks(
    kernels: Sequence[Workload],
    target: Target,
    records: Records,
    *,
    resume: bool = False,
    transfer: Mapping[str, Records] | None = None,
    seed: int = 0,
) -> tuple[list[Task], list[str]]:
    """The tasks for the distinct kernels, and why others are none.

    With ``resume`` what ``records`` know is not measured again; without, their best are the first
    to be measured, as are those of ``transfer`` (folder → records of any target).
    """
    model = CostModel()
    sources = {} if resume else {str(records.directory): records}
    sources.update(transfer or {})
    tasks: list[Task] = []
    skipped = []
    for kernel in kernels:
        try:
            space = KernelSpace(kernel.func, target, seed + 1)
        except (NoRule, Rejected) as error:
            skipped.append(f"{kernel.name}: {error}")
            continue
        same = next((t for t in tasks if _equal(t.space, space)), None)
        if same is not None:
            same.count += kernel.count
            continue
        tasks.append(_make_task(len(tasks), kernel, space, model, records, resume, sources, seed))
    _share(tasks)
    return tasks, skipped


def _make_task(
    number: int,
    kernel: Workload,
    space: KernelSpace,
    model: CostModel,
    records: Records,
    resume: bool,
    sources: Mapping[str, Records],
    seed: int,
) -> Task:
    seeds: dict[str, str] = {}
    traces = []
    for folder, source in sources.items():
        workload = source.find(space.mod)
        for record in [] if workload is None else source.ranked(workload)[:SEEDS]:
            if record.trace_key not in seeds:
                seeds[record.trace_key] = folder
                traces.append(record.trace_json)
    known: dict[str, float | None] = {}
    ranked: list[Record] = []
    times: list[tuple[str, float]] = []
    workload = records.find(space.mod) if resume else None
    if workload is not None:
        ranked = records.ranked(workload)
        times = [(record.trace_json, record.seconds) for record in ranked]
        known = {record.trace_key: record.seconds for record in ranked}
        known |= {one.trace_key: None for one in records.failures if one.workload == workload}
    rng = random.Random(seed * 1_000_003 + number)
    search = Search(space, model, rng, seeds=traces, known=known, known_times=times)
    task = Task(number, kernel.name, kernel.count, kernel.flops, space, search, seeds=seeds)
    task.trials = len(known)
    task.best_s = min((seconds for _, seconds in times), default=None)
    task.default_s = known.get(space.default.key)
    for record in ranked[:FINALISTS]:  # rivals of what this run finds
        with contextlib.suppress(Rejected):
            task.measured[record.trace_key] = (record.seconds, space.replay(record.trace_json))
    if task.default_s is not None:
        task.measured[space.default.key] = (task.default_s, space.default)
    return task


def _equal(one: KernelSpace, other: KernelSpace) -> bool:
    import tvm_ffi

    if one.default.structure != other.default.structure:
        return False
    return bool(tvm_ffi.structural_equal(one.mod, other.mod))


def _share(tasks: Sequence[Task]) -> None:
    """Give each task its share of the trials: FLOPs times count, and no task next to nothing."""
    total = sum(task.flops * task.count for task in tasks) or 1
    for task in tasks:
        task.share = max(task.flops * task.count / total, MIN_SHARE / len(tasks))


def run(
    state: State,
    records: Records,
    settings: Settings,
    *,
    timeout_s: float,
    progress: Progress,
    measurer: Callable[[Settings, float], Measurer] = Measurer,
) -> None:
    """Tune until the budget or every space is used up; ``state`` tells what came of it.

    Raises RunFailed where nothing at all could be measured. KeyboardInterrupt passes through, when
    all that was measured is in the records.
    """
    with measurer(settings, timeout_s) as measuring:
        loop = _Loop(state, records, settings, progress, measuring)
        for task in state.tasks:
            measuring.add_task(task.number, task.space.mod)
        try:
            loop.search()
            loop.finals()
        except KeyboardInterrupt:
            for result in measuring.partial():
                loop.take(result)
            raise
    if state.tasks and not any(task.best_s for task in state.tasks):
        raise RunFailed(f"nothing could be measured: {describe_failures(state)}")


def describe_failures(state: State) -> str:
    """The failures by cause, each with its first example, in one line."""
    if not state.failures:
        return "no candidate was tried"
    parts = [
        f"{count} x {cause} ({' '.join(state.examples[cause].split())[:160]})"
        for cause, count in state.failures.most_common()
    ]
    return "; ".join(parts)


class _Loop:
    def __init__(
        self,
        state: State,
        records: Records,
        settings: Settings,
        progress: Progress,
        measuring: Measurer,
    ) -> None:
        self.state = state
        self.records = records
        self.settings = settings
        self.progress = progress
        self.measuring = measuring
        self.cpu = cpu.host_model()
        self.tvm_version = tvm_runtime.version() or "unknown"

    def search(self) -> None:
        """Measure batches, always of the task that is furthest behind its share."""
        while True:
            while self.measuring.hungry and (batch := self._next_batch()) is not None:
                self.measuring.submit(batch)
            if not self.measuring.pending:
                return
            if self._out_of_time():
                self.measuring.stop_building()
            self._poll()

    def finals(self) -> None:
        """Measure the best few of each task side by side, with its default, while nothing builds.

        The least of hundreds of noisy times flatters; these decide.
        """
        self.state.phase = "measuring the winners again"
        for task in self.state.tasks:
            if task.new and len(task.measured) > 1:
                self.measuring.submit(self._final_batch(task))
        while self.measuring.pending:
            self._poll()

    def take(self, result: BatchResult) -> None:
        """Put a batch's outcomes into the records, then into the search and the state."""
        task = self.state.tasks[result.batch.task]
        final = result.batch.final
        self.records.append([self._entry(task, one, final) for one in result.outcomes])
        self.state.records += sum(one.seconds is not None for one in result.outcomes)
        if final:
            self._take_final(task, result.outcomes)
        else:
            self._take_search(task, result)
        if self.state.network_s is not None:
            self.state.curve.append((self.state.elapsed, self.state.network_s))
        self.progress.batch(self.state, task, result.drift)

    def _poll(self) -> None:
        for result in self.measuring.poll(POLL_S):
            self.take(result)
        self.progress.tick(self.state)

    # ---- choosing

    def _next_batch(self) -> Batch | None:
        if self._out_of_time():
            return None
        while True:
            open_tasks = [task for task in self.state.tasks if self._room(task) > 0]
            if not open_tasks:
                return None
            task = min(open_tasks, key=lambda one: (one.trials + one.in_flight) / one.share)
            candidates = task.search.propose(min(BATCH, self._room(task)))
            if not candidates:
                task.ended = "whole space measured"
                continue
            task.in_flight += len(candidates)
            jobs = [Job(one.trace_json, one) for one in candidates]
            return Batch(task.number, jobs, task.best_s)

    def _room(self, task: Task) -> int:
        """How many more trials a task may have."""
        if task.ended:
            return 0
        budget = self.state.budget
        room = [BATCH]
        if budget.trials_per_task is not None:
            room.append(budget.trials_per_task - task.trials - task.in_flight)
        if budget.trials is not None:
            taken = sum(one.trials + one.in_flight for one in self.state.tasks)
            room.append(budget.trials - taken)
        return min(room)

    def _out_of_time(self) -> bool:
        if self.state.budget.time_s is None:
            return False
        reserve = FINAL_S * len(self.state.tasks)
        return self.state.elapsed > max(self.state.budget.time_s - reserve, 0.0)

    def _final_batch(self, task: Task) -> Batch:
        ranked = sorted(task.measured.values(), key=lambda pair: pair[0])
        chosen = [candidate for _, candidate in ranked[:FINALISTS]]
        default = task.measured.get(task.space.default.key)
        if default is not None and default[1] not in chosen:
            chosen.append(default[1])
        jobs = [Job(one.trace_json, one) for one in chosen]
        return Batch(task.number, jobs, None, final=True)

    # ---- learning

    def _entry(self, task: Task, outcome: Outcome, final: bool) -> Measured | Failed:
        candidate: Candidate = outcome.job.payload
        if outcome.seconds is None:
            assert outcome.cause is not None
            return Failed(task.space.mod, candidate.key, outcome.cause, outcome.detail)
        info = RecordInfo(
            latency_us=outcome.seconds * 1e6,
            how="native",
            cpu=self.cpu,
            date=now(),
            tvm_version=self.tvm_version,
            spread=round(outcome.spread, 4),
            threads=self.settings.threads,
            cache="cold" if self.settings.cold else "warm",
            task=task.name,
            final=final,
            default=candidate.key == task.space.default.key,
        )
        return Measured(task.space.mod, candidate.trace_json, info)

    def _take_search(self, task: Task, result: BatchResult) -> None:
        outcomes = result.outcomes
        task.in_flight -= len(result.batch.jobs)
        task.trials += len(outcomes)
        task.new += len(outcomes)
        task.since_gain += len(outcomes)
        self.state.trials += len(outcomes)
        for outcome in outcomes:
            self._take_one(task, outcome)
        task.search.observe([(one.job.payload, one.seconds) for one in outcomes])
        self._end_if_done(task)

    def _take_one(self, task: Task, outcome: Outcome) -> None:
        candidate: Candidate = outcome.job.payload
        if outcome.seconds is None:
            assert outcome.cause is not None
            task.failures[outcome.cause] += 1
            self.state.failures[outcome.cause] += 1
            self.state.examples.setdefault(outcome.cause, outcome.detail)
            if outcome.cause == "wrong result":
                what = f"{task.name}: dropped a wrong schedule {candidate.point}"
                self.progress.note(f"{what}: {outcome.detail}")
            return
        task.measured[candidate.key] = (outcome.seconds, candidate)
        if candidate.key == task.space.default.key:
            task.default_s = outcome.seconds
        if task.best_s is None or outcome.seconds < task.best_s:
            if task.best_s is None or outcome.seconds < task.best_s * (1 - IMPROVEMENT):
                task.since_gain = 0
            task.best_s = outcome.seconds
            task.best = candidate

    def _take_final(self, task: Task, outcomes: Iterable[Outcome]) -> None:
        """What was measured side by side replaces what the search saw."""
        good = [(one.seconds, one.job.payload) for one in outcomes if one.seconds is not None]
        if not good:
            return
        for seconds, candidate in good:
            if candidate.key == task.space.default.key:
                task.default_s = seconds
        seconds, candidate = min(good, key=lambda pair: pair[0])
        if task.best is not None:
            task.best_s, task.best = seconds, candidate

    def _end_if_done(self, task: Task) -> None:
        patience = self.state.budget.early_stopping
        limit = self.state.budget.trials_per_task
        if task.ended:
            return
        if patience is not None and task.since_gain >= patience:
            task.ended = f"no gain in {patience} trials"
        elif limit is not None and task.trials >= limit:
            task.ended = f"{limit} trials done"
