"""Measure several engines on one network: each verified, then timed in turns; rows come back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tvm_mobilenet.benchmark.engines import verify
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.process import (
    EngineFailed,
    EngineProcess,
    Timeouts,
    wait_until_asleep,
)
from tvm_mobilenet.benchmark.engines.protocol import Job
from tvm_mobilenet.benchmark.rounds import Plan, Timed, drift, take_turns, warm_up
from tvm_mobilenet.benchmark.rows import Candidate, Measured, result_row
from tvm_mobilenet.benchmark.sentinel import Sentinel
from tvm_mobilenet.results.schema import ResultRow


class Progress(Protocol):
    """Who is told what happens. Called between measurements, never during one."""

    def step(self, engine: str, doing: str) -> None:
        """An engine begins to load, warm up, and so on."""

    def turn(self, engine: str, done: int, rounds: int) -> None:
        """An engine's turn begins, after ``done`` of at least ``rounds`` rounds."""

    def note(self, text: str) -> None:
        """Something that makes the figures less certain."""


@dataclass
class _Attempt(Measured):
    """What is known so far of one candidate, and what measures it."""

    process: EngineProcess | None = None
    timed: Timed | None = None


@dataclass(frozen=True)
class SideBySide:
    """One measurement: these candidates, this network, this many threads."""

    candidates: Sequence[Candidate]
    network: Network
    threads: int
    progress: Progress
    plan: Plan = field(default_factory=Plan)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def measure(self) -> list[ResultRow]:
        """One row for each candidate, in their order. Engines that fail give ``not run``."""
        with ExitStack() as processes:
            attempts = [self._prepare(candidate, processes) for candidate in self.candidates]
            self._take_turns(attempts)
            self._measure_drift(attempts)
            for attempt in attempts:
                self._finish(attempt)
        return [result_row(a, self.network, self.threads, "native") for a in attempts]

    def _prepare(self, candidate: Candidate, processes: ExitStack) -> _Attempt:
        """Load an engine in its own process, verify its first output and warm it up."""
        attempt = _Attempt(candidate)
        job = Job(self.threads, candidate.bundle, self.network.config, self.network.onnx)
        attempt.reason = candidate.absent or candidate.entry.missing() or _lacks(candidate, job)
        if attempt.reason is not None:
            self.progress.step(candidate.name, f"not run: {attempt.reason}")
            return attempt
        with _reason_of_failure(attempt):
            attempt.process = self._start(candidate, job, processes)
            self.progress.step(candidate.name, "loading")
            attempt.load_ms, attempt.version = attempt.process.load()
            self.progress.step(candidate.name, "first run")
            attempt.first_run_ms, outputs = attempt.process.first_run(self.network.input)
            attempt.max_abs_diff = verify.check(
                outputs, self.network.expected, self.network.precision
            )
            self.progress.step(candidate.name, "warming up")
            attempt.timed = Timed(attempt.process)
            warm_up(attempt.timed, attempt.first_run_ms, self.plan)
            if not attempt.timed.steady:
                self.progress.note(f"{candidate.name} did not become steady in its warm-up")
            wait_until_asleep(attempt.process.pid)
        if attempt.reason is not None:
            self.progress.step(candidate.name, f"not run: {attempt.reason}")
        return attempt

    def _start(self, candidate: Candidate, job: Job, processes: ExitStack) -> EngineProcess:
        scratch = tempfile.TemporaryDirectory(prefix="tvm-mobilenet-", ignore_cleanup_errors=True)
        folder = Path(processes.enter_context(scratch))
        process = EngineProcess(candidate.entry.path, job, folder, self.timeouts)
        return processes.enter_context(process)

    def _take_turns(self, attempts: Sequence[_Attempt]) -> None:
        running = {
            attempt.candidate.name: attempt for attempt in attempts if attempt.reason is None
        }
        restless: set[str] = set()

        def settle(name: str) -> None:
            process = running[name].process
            if process is not None and not wait_until_asleep(process.pid):
                restless.add(name)

        timed = {name: attempt.timed for name, attempt in running.items() if attempt.timed}
        sentinel = self._sentinel(attempts, settle)

        def before(done: int, name: str) -> None:
            self.progress.turn(name, done, self.plan.rounds)
            if sentinel is not None:
                with suppress(EngineFailed):  # its own next turn says why
                    sentinel.wait()

        take_turns(timed, self.plan, settle, before)
        if sentinel is not None and sentinel.waited_s > 0:
            self.progress.note(f"waited {sentinel.waited_s:.1f} s for a machine at full speed")
        for name in sorted(restless):
            self.progress.note(f"threads of {name} kept running while others were measured")
        for attempt in running.values():
            if attempt.timed is not None:
                attempt.reason = attempt.timed.failure

    def _sentinel(
        self, attempts: Sequence[_Attempt], settle: Callable[[str], None]
    ) -> Sentinel | None:
        found = _reference(attempts)
        if found is None:
            return None
        candidate, timed = found
        return Sentinel(timed, self.plan, lambda: settle(candidate.name))

    def _measure_drift(self, attempts: Sequence[_Attempt]) -> None:
        """Measure the reference again, and say how far it moved since the first rounds."""
        found = _reference(attempts)
        if found is None:
            return
        candidate, reference = found
        self.progress.step(candidate.name, "measured again for drift")
        try:
            moved = drift(reference, self.plan)
        except EngineFailed as error:
            self.progress.note(f"{candidate.name} failed when it was measured again: {error}")
        else:
            self.progress.note(f"drift of {candidate.name} from start to end: {moved:+.1%}")

    def _finish(self, attempt: _Attempt) -> None:
        """Verify the output once more: the timed runs must have left the right one."""
        if attempt.reason is not None or attempt.process is None:
            return
        with _reason_of_failure(attempt):
            verify.check(attempt.process.outputs(), self.network.expected, self.network.precision)
            attempt.peak_rss_mb = attempt.process.peak_rss_mb()
            attempt.samples_ms = attempt.timed.samples_ms if attempt.timed else []


def _reference(attempts: Sequence[_Attempt]) -> tuple[Candidate, Timed] | None:
    """What tells of the machine: the first peer that runs, else the first of ours."""
    timed = [(a.candidate, a.timed) for a in attempts if a.reason is None and a.timed]
    return min(timed, key=lambda pair: pair[0].ours, default=None)


@contextmanager
def _reason_of_failure(attempt: _Attempt) -> Iterator[None]:
    try:
        yield
    except (EngineFailed, verify.WrongResult) as error:
        attempt.reason = str(error)


def _lacks(candidate: Candidate, job: Job) -> str | None:
    """Why the network has no form that this engine loads, if so."""
    if getattr(job, candidate.entry.needs) is not None:
        return None
    if candidate.entry.needs == "onnx":
        return "there is no ONNX file of this network: pass --onnx FILE"
    return "this bundle was compiled from an ONNX file, and PyTorch needs one of our models"
