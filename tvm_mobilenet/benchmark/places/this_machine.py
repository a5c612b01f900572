"""``bench`` on this machine: each engine in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.process import EngineProcess, Timeouts, wait_until_asleep
from tvm_mobilenet.benchmark.engines.protocol import Job
from tvm_mobilenet.benchmark.neighbour import beside, cpu_beside
from tvm_mobilenet.benchmark.places.side_by_side import SideBySide
from tvm_mobilenet.benchmark.rounds import Plan
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware.core_facts import find_core_facts
from tvm_mobilenet.provenance import How, Machine, describe_machine
from tvm_mobilenet.results.schema import Neighbour, ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.cases import Case
    from tvm_mobilenet.benchmark.engines.protocol import Array
    from tvm_mobilenet.benchmark.progress import PlainProgress


class ThisMachine:
    """Where ``bench`` measures unless it is told otherwise."""

    architecture: str | None = None

    def __init__(
        self,
        plan: Plan,
        threads: Sequence[int],
        progress: PlainProgress,
        noise: Sequence[Neighbour] = (),
    ) -> None:
        """What is measured is measured again beside each kind of ``noise``."""
        self.plan, self.progress = plan, progress
        self.noise, self.cpu_beside = noise, cpu_beside()
        # of all that was measured: a neighbour may have been there throughout one network
        self.readings: list[float] = []
        if noise and self.cpu_beside is None:
            raise BadInput("--noise keeps a CPU busy beside the engines; expected two, got one")
        self.described = replace(describe_machine(), facts=find_core_facts())
        # what will disturb the measurement is said beforehand
        if self.described.busy:
            progress.note(
                f"the machine is busy (load average {self.described.load_average[0]:.2f} on "
                f"{self.described.cores} cores)"
            )
        if max(threads) > self.described.cores:
            progress.note(f"{max(threads)} threads share {self.described.cores} cores")

    def machine(self) -> Machine:
        return self.described

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        side_by_side = SideBySide(
            case.candidates,
            case.network,
            threads,
            ProcessOpener(),
            self.progress,
            self.plan,
            self.readings,
        )
        rows = side_by_side.measure()
        for kind in self.noise:
            assert self.cpu_beside is not None
            self.progress.heading(f"beside {kind} noise on CPU {self.cpu_beside}")
            with beside(kind, self.cpu_beside):
                noisy = side_by_side.measure()
            rows += [replace(row, neighbour=kind) for row in noisy]
        return rows


class ProcessOpener:
    """Starts each engine in a process of its own, with a folder for its temporary files."""

    how: How = "native"
    shared = True

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self.timeouts = timeouts or Timeouts()

    @contextmanager
    def open(self, candidate: Candidate, network: Network, threads: int) -> Iterator[LocalEngine]:
        """As ``Opener.open``."""
        job = Job(
            threads,
            candidate.bundle,
            network.config,
            network.onnx,
            network.weights,
            network.precision,
            network.tflite,
        )
        reason = candidate.entry.missing() or _explain_lack(candidate, job)
        if reason is not None:
            raise BadInput(reason)
        with (
            tempfile.TemporaryDirectory(
                prefix="tvm-mobilenet-", ignore_cleanup_errors=True
            ) as scratch,
            EngineProcess(candidate.entry.path, job, Path(scratch), self.timeouts) as process,
        ):
            yield LocalEngine(process)


class LocalEngine:
    """An engine of this machine, loaded."""

    def __init__(self, process: EngineProcess) -> None:
        self.process = process
        self.load_ms: float | None
        self.version: str | None
        self.load_ms, self.version = process.load()

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        return self.process.first_run(inputs)

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        return self.process.run(unrecorded, runs, expected_ms)

    def nops_per_cycle(self) -> Sequence[float]:
        return self.process.nops_per_cycle

    def outputs(self) -> Sequence[Array]:
        return self.process.outputs()

    def peak_rss_mb(self) -> float | None:
        return self.process.peak_rss_mb()

    def settle(self) -> bool:
        return wait_until_asleep(self.process.pid)


def _explain_lack(candidate: Candidate, job: Job) -> str | None:
    """Why the network has no form that this engine loads, if so."""
    if getattr(job, candidate.entry.needs) is not None:
        return None
    if candidate.entry.needs == "onnx":
        return "there is no ONNX file of this network: pass --onnx FILE, or its --weights FILE"
    if candidate.entry.needs == "tflite":
        return "LiteRT's file is converted from one of our models: pass the bundle of one"
    return (
        "PyTorch needs one of our models, and this bundle was compiled from an ONNX file, or from "
        "one of weights: pass --weights FILE"
    )
