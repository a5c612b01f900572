"""``bench --count-instructions``: what an engine executes for one inference on an emulated core."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet.benchmark.engines import onnx_worker_file, verify
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.rows import Candidate, Measured, result_row
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.emulation.cores import core_of
from tvm_mobilenet.emulation.emulator import ARCHITECTURE, EMULATOR_NAME, SYSTEMS, Emulator
from tvm_mobilenet.emulation.instruction_count import Count
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.provenance import Machine, MeasuredDevice, describe_machine
from tvm_mobilenet.results.schema import ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.cases import Case

PEERS_ON_DEVICE = ("onnxruntime",)
# A Python process takes a million instructions more or less each time: more runs to tell apart.
PYTHON_RUNS = (1, 11)


class EmulatedCore:
    """An emulated ARM core, whose instructions are counted."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.architecture: str | None = emulator.architecture
        self.described = dataclasses.replace(describe_machine(), device=describe(emulator))

    def machine(self) -> Machine:
        return self.described

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        return Counting(case.candidates, case.network, threads, self.emulator).measure()


def find_emulator(target_names: Sequence[str]) -> Emulator:
    """The emulator with the core that all these targets, by name, are for.

    Raises BadInput where they are not for one core, or for none of ARM's.
    """
    cores = sorted({core_of(name) for name in target_names})
    if len(cores) > 1:
        names = " and ".join(core for core, _ in cores)
        raise BadInput(f"counted on one core at a time; these are for {names}")
    ((core, architecture),) = cores
    return dataclasses.replace(emulator.find(), cpu=core, architecture=architecture)


def describe(device: Emulator) -> MeasuredDevice:
    """The emulated core, for the results."""
    command = [SYSTEMS[device.architecture].qemu, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    version = said.stdout.split("version", 1)[1].split()[0]
    return MeasuredDevice(
        f"{EMULATOR_NAME} {device.cpu}", emulated=True, versions={"qemu": version}
    )


@dataclass(frozen=True)
class Counting:
    """One measurement: these candidates, this network, this many threads."""

    candidates: Sequence[Candidate]
    network: Network
    threads: int
    device: Emulator

    def measure(self) -> list[ResultRow]:
        """One row for each candidate, in their order. Those that fail give ``not run``."""
        return [
            result_row(self.count(candidate), self.network, self.threads, "emulated")
            for candidate in self.candidates
        ]

    def count(self, candidate: Candidate) -> Measured:
        measured = Measured(candidate, reason=candidate.absent)
        if measured.reason is not None:
            return measured
        try:
            if candidate.bundle is not None:
                counted = self.count_bundle(candidate.bundle, measured)
            elif self.device.architecture != ARCHITECTURE:
                raise BadInput(f"there is no {candidate.name} for {self.device.architecture}")
            elif candidate.name in PEERS_ON_DEVICE:
                counted = self.count_onnxruntime(measured)
            else:
                raise BadInput(f"not on the emulated device; {', '.join(PEERS_ON_DEVICE)} is")
            measured.max_abs_diff = candidate.check(counted.outputs, self.network)
            measured.instructions = counted.instructions
        except (BadInput, RunFailed, verify.WrongResult) as error:
            measured.reason = str(error)
        return measured

    def count_bundle(self, path: Path, measured: Measured) -> Count:
        with open_bundle(path, self.device.architecture) as bundle:
            measured.version = f"TVM {bundle.manifest.tvm_version}"
            return instruction_count.count(bundle, self.network.inputs, self.device, self.threads)

    def count_onnxruntime(self, measured: Measured) -> Count:
        """A Python process on the device, of which inferences alone remain after subtracting."""
        if self.network.onnx is None:
            raise BadInput("there is no ONNX file of this network: pass --onnx FILE")
        measured.version = emulator.version_of("onnxruntime", self.device)
        with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as name:
            x, outputs = Path(name, "x.npz"), Path(name, "y.npz")
            np.savez(x, *self.network.inputs)
            # Python looks for modules beside the script first, where ours has a namesake
            script = shutil.copy(onnx_worker_file(), name)
            load = {"load": str(self.network.onnx.resolve()), "threads": self.threads}

            def execute_runs(runs: int) -> int:
                timed = {"unrecorded": 0, "runs": runs}
                requests = (load, {"input": str(x)}, timed, {"outputs": str(outputs)})
                program = [str(self.device.interpreter), str(script)]
                lines = "".join(json.dumps(request) + "\n" for request in requests)
                return instruction_count.execute(self.device, program, lines)

            instructions = instruction_count.of_one_inference(execute_runs, PYTHON_RUNS)
            with np.load(outputs) as saved:
                return Count(instructions, tuple(saved[key] for key in saved.files))
