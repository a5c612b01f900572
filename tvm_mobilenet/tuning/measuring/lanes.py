"""Where batches are measured: a lane has one worker, one batch at a time, and its sentinels."""

from __future__ import annotations

from tvm_mobilenet.tuning.measuring.batches import SENTINEL, BatchState, Sentinel
from tvm_mobilenet.tuning.measuring.measurer import Statistics
from tvm_mobilenet.tuning.workers.messages import Done, Run, RunTask
from tvm_mobilenet.tuning.workers.worker_process import Died, Heard, WorkerProcess

PREPARE_S = 60.0  # more for a runner's first candidate of a task: its arguments
GRACE_S = 5.0  # for the answer of a device whose own alarm ended the candidate


class Lane:
    """Measures on this machine. ``sentinels`` are by task."""

    def __init__(self, worker: WorkerProcess, statistics: Statistics) -> None:
        self.worker = worker
        self.batch: BatchState | None = None
        self.sentinels: dict[int, Sentinel] = {}
        self._statistics = statistics

    def keeps(self, library: str) -> bool:
        return any(sentinel.library == library for sentinel in self.sentinels.values())

    def take(self, state: BatchState) -> None:
        """Measure this batch from now on."""
        self.batch, state.sentinels, state.cpu = state, self.sentinels, self.worker.cpu

    def dispatch(self, timeout_s: float) -> None:
        """Give the worker its batch's next job, where there is one."""
        job = None if self.batch is None else self.batch.next_job()
        if self.batch is None or job is None:
            return
        state, patience_s = self.batch, self.patience(timeout_s)
        number = state.batch.task
        if number not in self.worker.tasks:
            patience_s += PREPARE_S
            self.worker.tell(RunTask(number, state.task.arguments, state.task.case), number)
        # a second pass is for contenders: in a slow moment all of them would be cut off
        contender = job == SENTINEL or state.batch.final or state.passes > 0
        state.running = job
        library = self.sentinels[number].library if job == SENTINEL else state.libraries[job]
        best_s = None if contender else state.batch.best_s
        run = Run(job, number, library, best_s, timeout_s, keep=job == SENTINEL)
        self.worker.ask(run, patience_s, state)

    def receive(self) -> tuple[Done | None, list[str]]:
        """Take an answer into the batch; that answer, and the libraries that nothing needs now.

        Raises RunFailed and BadInput as ``WorkerProcess.receive`` does.
        """
        heard = self.worker.hear(self.explain_death)
        if heard is None:
            return None, []
        done = heard.done
        self._statistics.runner_rss = max(self._statistics.runner_rss, done.rss)
        unneeded = self._leave(heard) if done.lost else self._settle(heard)
        if self.worker.outgrown:
            unneeded += self.renew()
        return done, unneeded

    def patience(self, timeout_s: float) -> float:
        """How long to wait for the answer to a run that may take ``timeout_s``."""
        return timeout_s

    def explain_death(self, job: int, death: Died) -> Done:
        """The answer that stands for that of a worker that died."""
        return Done(job, cause=death.cause, detail=death.detail)

    def renew(self) -> list[str]:
        """Another worker in the place of this one; the libraries that nothing needs now."""
        self.worker.start()
        return []

    def forget_sentinels(self) -> list[str]:
        """What they are timed by from now on may be another machine; their libraries."""
        libraries = [sentinel.library for sentinel in self.sentinels.values()]
        self.sentinels.clear()
        if self.batch is not None:
            self.batch.before = self.batch.after = None
        return libraries

    def dismiss(self) -> None:
        """Let the worker end by itself, where that matters."""

    def _settle(self, heard: Heard) -> list[str]:
        state, done = heard.assignment, heard.done
        unneeded = []
        state.running = None
        if done.job != SENTINEL:
            self._statistics.run += 1
            self._statistics.run_s += done.seconds
            state.take_run(done)
        elif done.cause is None:
            state.take_sentinel(self.sentinels[state.batch.task], done)
        else:  # it ran before; whatever it is now, guard without it
            unneeded.append(self.sentinels.pop(state.batch.task).library)
        if not done.ready:
            unneeded += self.forget_sentinels()
        return unneeded

    def _leave(self, heard: Heard) -> list[str]:
        """The device is gone: the batch goes on elsewhere, the sentinels end."""
        self.batch = None
        unneeded = self.forget_sentinels()
        heard.assignment.leave_lane(heard.done.detail)
        return unneeded


class DeviceLane(Lane):
    """Measures on whichever device of a farm its worker holds."""

    def patience(self, timeout_s: float) -> float:
        return timeout_s + GRACE_S

    def explain_death(self, job: int, death: Died) -> Done:
        # a device that does not answer is as good as gone
        return Done(job, cause="device lost", detail=death.detail, lost=True)

    def renew(self) -> list[str]:
        super().renew()
        return self.forget_sentinels()  # the next device may be another

    def dismiss(self) -> None:
        # TVM's RPC server does not survive a session that is cut off with an answer on its way
        self.worker.dismiss()
