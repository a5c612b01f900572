"""Measure several engines on one network: each verified, then timed in turns; rows come back.

The flow is the same wherever the engines run; an ``Opener`` starts them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tvm_mobilenet.benchmark import core_states
from tvm_mobilenet.benchmark.engines import verify
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.rounds import Plan, Timed, drift, take_turns, warm_up
from tvm_mobilenet.benchmark.rows import Candidate, Measured, result_row
from tvm_mobilenet.benchmark.speed_watch import SpeedWatch
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.provenance import How
from tvm_mobilenet.results.schema import ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


class Progress(Protocol):
    """Who is told what happens. Called between measurements, never during one."""

    def step(self, engine: str, doing: str) -> None:
        """An engine begins to load, warm up, and so on."""

    def turn(self, engine: str, done: int, rounds: int) -> None:
        """An engine's turn begins, after ``done`` of at least ``rounds`` rounds."""

    def note(self, text: str) -> None:
        """Something that makes the figures less certain."""


class OpenEngine(Protocol):
    """An engine with the network loaded. Every method may raise RunFailed.

    ``version`` is the runtime's, ``load_ms`` what loading took, None where that is not known.
    """

    version: str | None
    load_ms: float | None

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        """Milliseconds of the first inference, of ``inputs``, and its outputs."""

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        """Milliseconds of each of ``runs`` inferences after ``unrecorded`` ones."""

    def nops_per_cycle(self) -> Sequence[float]:
        """What was probed around the last run's inferences, as in ``rounds.Runner``."""

    def outputs(self) -> Sequence[Array]:
        """The outputs of the last inference."""

    def peak_rss_mb(self) -> float | None:
        """Its process's peak resident memory in 10^6 bytes, where that is its own."""

    def settle(self) -> bool:
        """Let its threads fall asleep; whether they did."""


class Opener(Protocol):
    """Starts engines in one place.

    ``how`` is what a row says of its times. ``shared`` says that others may use the machine: it is
    watched then, by one of the engines, and measured again at the end.
    """

    how: How
    shared: bool

    def open(
        self, candidate: Candidate, network: Network, threads: int
    ) -> AbstractContextManager[OpenEngine]:
        """The engine with the network loaded, for as long as the block runs.

        Raises BadInput or RunFailed with the reason for its row where it cannot run there.
        """


@dataclass
class _Attempt(Measured):
    """What is known so far of one candidate, and what measures it."""

    engine: OpenEngine | None = None
    timed: Timed | None = None


@dataclass(frozen=True)
class SideBySide:
    """One measurement: these candidates, this network, this many threads.

    ``readings`` are of the cores' probe, from measurements before this one; it adds its own.
    """

    candidates: Sequence[Candidate]
    network: Network
    threads: int
    opener: Opener
    progress: Progress
    plan: Plan = field(default_factory=Plan)
    readings: list[float] = field(default_factory=list)

    def measure(self) -> list[ResultRow]:
        """One row for each candidate, in their order. Engines that fail give ``not run``."""
        with ExitStack() as engines:
            attempts = [self._prepare(candidate, engines) for candidate in self.candidates]
            self._take_turns(attempts)
            self._tell_states(attempts)
            if self.opener.shared:
                self._measure_drift(attempts)
            for attempt in attempts:
                self._finish(attempt)
        return [result_row(a, self.network, self.threads, self.opener.how) for a in attempts]

    def _prepare(self, candidate: Candidate, engines: ExitStack) -> _Attempt:
        """Load an engine, verify its first output and warm it up."""
        attempt = _Attempt(candidate, reason=candidate.absent)
        if attempt.reason is None:
            with _reason_of_failure(attempt):
                self._load(attempt, engines)
        if attempt.reason is not None:
            self.progress.step(candidate.name, f"not run: {attempt.reason}")
        return attempt

    def _load(self, attempt: _Attempt, engines: ExitStack) -> None:
        name = attempt.candidate.name
        self.progress.step(name, "loading")
        opened = self.opener.open(attempt.candidate, self.network, self.threads)
        engine = engines.enter_context(opened)
        attempt.engine, attempt.version = engine, engine.version
        attempt.load_ms = engine.load_ms
        self.progress.step(name, "first run")
        attempt.first_run_ms, outputs = engine.first_run(self.network.inputs)
        attempt.max_abs_diff = attempt.candidate.check(outputs, self.network)
        if self.network.labelled is not None:
            self.progress.step(name, f"classifying {len(self.network.labelled.labels)} images")
            attempt.accuracy = self.network.labelled.measure(engine)
            engine.first_run(self.network.inputs)  # which the timed runs are of
        self.progress.step(name, "warming up")
        attempt.timed = Timed(engine)
        warm_up(attempt.timed, attempt.first_run_ms, self.plan)
        if not attempt.timed.steady:
            self.progress.note(f"{name} did not become steady in its warm-up")
        engine.settle()

    def _take_turns(self, attempts: Sequence[_Attempt]) -> None:
        running = {a.candidate.name: a for a in attempts if a.reason is None}
        restless: set[str] = set()

        def settle(name: str) -> None:
            engine = running[name].engine
            if engine is not None and not engine.settle():
                restless.add(name)

        watch = self._make_watch(attempts, settle) if self.opener.shared else None

        def begin_turn(done: int, name: str) -> None:
            self.progress.turn(name, done, self.plan.rounds)
            if watch is not None:
                with suppress(RunFailed):  # its own next turn says why
                    watch.wait()

        timed = {name: attempt.timed for name, attempt in running.items() if attempt.timed}
        take_turns(timed, self.plan, settle, begin_turn)
        if watch is not None and watch.waited_s > 0:
            self.progress.note(f"waited {watch.waited_s:.1f} s for a machine at full speed")
        for name in sorted(restless):
            self.progress.note(f"threads of {name} kept running while others were measured")
        for name, one in timed.items():
            running[name].reason = one.failure

    def _tell_states(self, attempts: Sequence[_Attempt]) -> None:
        """Of every engine's samples, by all readings there are."""
        timed = [(a, a.timed) for a in attempts if a.reason is None and a.timed]
        self.readings.extend(one for _, of in timed for turn in of.readings for one in turn)
        shared_below = core_states.boundary(self.readings)
        for attempt, of in timed:
            attempt.core = core_states.use_of(of.readings, of.samples_ms, shared_below)

    def _make_watch(
        self, attempts: Sequence[_Attempt], settle: Callable[[str], None]
    ) -> SpeedWatch | None:
        found = _find_reference(attempts)
        if found is None:
            return None
        candidate, timed = found
        return SpeedWatch(timed, self.plan, lambda: settle(candidate.name))

    def _measure_drift(self, attempts: Sequence[_Attempt]) -> None:
        """Measure the reference again, and say how far it moved since the first rounds."""
        found = _find_reference(attempts)
        if found is None:
            return
        candidate, reference = found
        self.progress.step(candidate.name, "measured again for drift")
        try:
            moved = drift(reference, self.plan)
        except RunFailed as error:
            self.progress.note(f"{candidate.name} failed when it was measured again: {error}")
        else:
            self.progress.note(f"drift of {candidate.name} from start to end: {moved:+.1%}")

    def _finish(self, attempt: _Attempt) -> None:
        """Verify the output once more: the timed runs must have left the right one."""
        if attempt.reason is not None or attempt.engine is None or attempt.timed is None:
            return
        with _reason_of_failure(attempt):
            attempt.candidate.check(attempt.engine.outputs(), self.network)
            attempt.peak_rss_mb = attempt.engine.peak_rss_mb()
            attempt.samples_ms = attempt.timed.samples_ms


def _find_reference(attempts: Sequence[_Attempt]) -> tuple[Candidate, Timed] | None:
    """What tells of the machine: the first peer that runs, else the first of ours."""
    timed = [(a.candidate, a.timed) for a in attempts if a.reason is None and a.timed]
    return min(timed, key=lambda pair: pair[0].ours, default=None)


@contextmanager
def _reason_of_failure(attempt: _Attempt) -> Iterator[None]:
    try:
        yield
    except (BadInput, RunFailed, verify.WrongResult) as error:
        attempt.reason = str(error)
