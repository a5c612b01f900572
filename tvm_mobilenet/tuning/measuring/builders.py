"""The workers that build: which candidate each gets next, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tvm_mobilenet.tuning.measuring.batches import BatchState
from tvm_mobilenet.tuning.measuring.measurer import Statistics
from tvm_mobilenet.tuning.workers.messages import Build, BuildTask, Done, MakeCase
from tvm_mobilenet.tuning.workers.worker_process import Heard, WorkerProcess

CASE_TIMEOUT_S = 120.0  # an unscheduled kernel is slow
CASE = -1  # the job number of making a task's case


class Builders:
    """Builds what batches need, in their order; ``objects`` are linked into every candidate."""

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        timeout_s: float,
        statistics: Statistics,
        objects: tuple[str, ...] = (),
    ) -> None:
        self.workers = tuple(workers)
        self.objects = objects
        self._timeout_s = timeout_s
        self._statistics = statistics

    def dispatch(self, batches: Iterable[BatchState]) -> None:
        """Give every idle worker something to do, where there is anything."""
        batches = list(batches)
        for worker in self.workers:
            if worker.idle:
                self._dispatch_to(worker, batches)

    def receive(self) -> list[Done]:
        """Take the answers there are into their batches; returns them. Raises RunFailed."""
        answers = []
        for worker in self.workers:
            heard = worker.hear()
            if heard is not None:
                answers.append(heard.done)
                self._settle(worker, heard)
        return answers

    def _dispatch_to(self, worker: WorkerProcess, batches: Iterable[BatchState]) -> None:
        for state in batches:
            task, number = state.task, state.batch.task
            if task.broken or not state.to_build:
                continue
            if number not in worker.tasks:
                worker.tell(BuildTask(number, task.mod_json), number)
            if not task.case_begun:
                task.case_begun = True
                make = MakeCase(CASE, number, task.arguments, task.case)
                worker.ask(make, CASE_TIMEOUT_S, state)
                return
            job = state.to_build.popleft()
            state.building.add(job)
            trace_json = state.batch.jobs[job].trace_json
            build = Build(job, number, trace_json, state.library(job), self.objects)
            worker.ask(build, self._timeout_s, state)
            return

    def _settle(self, worker: WorkerProcess, heard: Heard) -> None:
        state, done = heard.assignment, heard.done
        self._statistics.builder_rss = max(self._statistics.builder_rss, done.rss)
        if done.job == CASE:
            state.task.reference = done.detail if done.cause is None else ""
            if done.cause is not None:
                state.task.broken = f"what it must compute is not known: {done.detail}"
        else:
            self._statistics.built += 1
            self._statistics.build_s += done.seconds
            state.take_built(done)
        if worker.outgrown:
            worker.start()
