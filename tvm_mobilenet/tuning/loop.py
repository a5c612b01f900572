"""The tuning loop: which task gets the next batch, what came of it, when it is enough.

``tune`` is the command around it. Everything measured is in the records before the next batch is
looked at, so the loop may be stopped at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.database.entries import Failed, Measured
from tvm_mobilenet.database.lines import RecordInfo
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.provenance import now
from tvm_mobilenet.scheduling.space import Candidate
from tvm_mobilenet.tuning.kernels import precision_of
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job, Measurer, Outcome
from tvm_mobilenet.tuning.search.state import Progress, State, Task
from tvm_mobilenet.tuning.search.tasks import FINALISTS
from tvm_mobilenet.tuning.workers.messages import Settings

BATCH = 12  # candidates: about one second of building
FIRST_BATCH = 4  # of a task: the default first of all, so that every kernel soon has a time
FINAL_S = 1.0  # about what that takes for one task
IMPROVEMENT = 0.005  # a smaller gain counts as none for early stopping
POLL_S = 0.25


def run(
    state: State,
    records: Records,
    settings: Settings,
    measurer: Measurer,
    progress: Progress,
) -> None:
    """Tune until the budget or every space is used up; ``state`` tells what came of it.

    Raises RunFailed where nothing at all could be measured. KeyboardInterrupt passes through, when
    all that was measured is in the records.
    """
    loop = Loop(state, records, settings, progress, measurer)
    for task in state.tasks:
        measurer.add_task(task.number, task.space.mod)
    try:
        loop.search()
        loop.finals()
    except (KeyboardInterrupt, RunFailed, BadInput):
        for result in measurer.partial():
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


class Loop:
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
            if (task.new or not task.settled) and len(task.measured) > 1:
                self.measuring.submit(self._final_batch(task))
        while self.measuring.pending:
            self._poll()

    def take(self, result: BatchResult) -> None:
        """Put a batch's outcomes into the records, then into the search and the state."""
        task = self.state.tasks[result.batch.task]
        final = result.batch.final
        self.records.append([self._entry(task, one, final=final) for one in result.outcomes])
        self.state.records += sum(one.seconds is not None for one in result.outcomes)
        if final:
            self._take_final(task, result.outcomes)
        else:
            self._take_search(task, result)
        if self.state.network_s is not None and not final:
            self.state.curve.append((self.state.elapsed, self.state.network_s))
        self.progress.batch(self.state, task, result.drift)

    def _poll(self) -> None:
        for result in self.measuring.poll(POLL_S):
            self.take(result)
        while self.measuring.notes:
            self.progress.note(self.measuring.notes.pop(0))
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
            begun = task.trials or task.in_flight
            size = BATCH if begun else max(FIRST_BATCH, len(task.seeds) + 1)
            candidates = task.search.propose(min(size, self._room(task)))
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

    def _entry(self, task: Task, outcome: Outcome, *, final: bool) -> Measured | Failed:
        candidate: Candidate = outcome.job.payload
        if outcome.seconds is None:
            assert outcome.cause is not None
            return Failed(task.space.mod, candidate.key, outcome.cause, outcome.detail)
        info = RecordInfo(
            latency_us=outcome.seconds * 1e6,
            how=self.measuring.how,
            cpu=outcome.cpu or self.measuring.cpu,
            date=now(),
            tvm_version=self.tvm_version,
            spread=round(outcome.spread, 4),
            threads=self.settings.threads,
            cache=self.settings.cache,
            task=task.name,
            final=final,
            default=candidate.key == task.space.default.key,
            reference=outcome.reference or "none",
            precision=precision_of(task.space.mod["main"]),
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
        self._remember(task, outcome.seconds, candidate)
        if candidate.key in task.seeds:
            task.seed_times[candidate.key] = outcome.seconds
        if candidate.key == task.space.default.key:
            task.default_s = outcome.seconds
        if task.best_s is None or outcome.seconds < task.best_s:
            if task.best_s is None or outcome.seconds < task.best_s * (1 - IMPROVEMENT):
                task.since_gain = 0
            task.best_s = outcome.seconds
            task.best = candidate

    def _remember(self, task: Task, seconds: float, candidate: Candidate) -> None:
        """Keep who may be measured again at the end; each schedule is 100 KB."""
        task.measured[candidate.key] = (seconds, candidate)
        default = task.space.default.key
        others = [(time, key) for key, (time, _) in task.measured.items() if key != default]
        for _, key in sorted(others)[FINALISTS:]:
            del task.measured[key]

    def _take_final(self, task: Task, outcomes: Iterable[Outcome]) -> None:
        """What was measured side by side replaces what the search saw."""
        good = [(one.seconds, one.job.payload) for one in outcomes if one.seconds is not None]
        if not good:
            return
        for seconds, candidate in good:
            if candidate.key == task.space.default.key:
                task.default_s = seconds
        task.best_s, task.best = min(good, key=lambda pair: pair[0])

    def _end_if_done(self, task: Task) -> None:
        patience = self.state.budget.early_stopping
        limit = self.state.budget.trials_per_task
        if task.ended:
            return
        if patience is not None and task.since_gain >= patience:
            task.ended = f"no gain in {patience} trials"
        elif limit is not None and task.trials >= limit:
            task.ended = f"{limit} trials done"
