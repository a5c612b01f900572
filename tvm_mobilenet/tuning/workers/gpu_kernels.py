"""The tuner's builder and runner for NVIDIA GPUs: what its worker processes do there.

A candidate becomes a library like a network's, of one launch. It is checked against NumPy, or
against the unscheduled kernel, which runs on the CPU, where ``gpu_reference`` knows no such layer.
It is timed by the GPU's own clock, launches back to back. Weights stay in the L2 cache between
calls, where those of a MobileNet stay between inferences too.

``measure`` is the same for this machine's GPU and for one over RPC (``gpu_worker``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedules.cuda.fragments import TF32
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.kernels.gpu.weights import round_to_tf32
from tvm_mobilenet.runtime import cuda
from tvm_mobilenet.runtime.cuda import OutOfMemory
from tvm_mobilenet.scheduling.rules import rule_of
from tvm_mobilenet.tuning.workers import case
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.builder import Builder
from tvm_mobilenet.tuning.workers.messages import Argument, Build, Done, MakeCase, Run, Settings
from tvm_mobilenet.tuning.workers.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

ALIGNMENT = 256  # bytes, as GPU allocations are
HERE = "this machine's GPU"


class GpuBuilder(Builder):
    """Compiles candidates by nvcc, and says what they must compute."""

    def _compile(self, job: Build) -> None:
        from tvm_mobilenet.compiler.cuda import library
        from tvm_mobilenet.compiler.cuda.program import (
            INPUTS,
            PARAMETERS,
            GpuProgram,
            HostPlace,
            Launch,
        )

        mod = self._workloads[job.task]
        scheduled = self._replay(mod, job.trace_json, self._target).mod
        arguments = arguments_of(mod)
        offsets, size = pack(arguments)
        places = tuple(
            HostPlace(INPUTS + 1) if one.role == "output" else HostPlace(PARAMETERS, offset)
            for one, offset in zip(arguments, offsets, strict=True)
        )
        (output,) = (nbytes(one) for one in arguments if one.role == "output")
        program = GpuProgram(
            {"main": scheduled["main"]},
            (Launch("main", places),),
            b"",
            (size, 1, 1, output),
            (),
        )
        code = library.generate(program, self._target, "cuda")
        library.link(code, Path(job.library), "cuda", self._settings.link, job.objects)

    def _make_case(self, job: MakeCase) -> str:
        from tvm_mobilenet.tuning.workers import gpu_reference

        mod = self._workloads[job.task]
        values = case.random_values(job.arguments, self._settings.seed)
        if (rule_of(mod["main"]) or "").endswith(f"_{TF32.suffix}"):
            # its weights come rounded, as the network's do
            values = [
                round_to_tf32(value) if one.role == "constant" else value
                for value, one in zip(values, job.arguments, strict=True)
            ]
        output_of(job.arguments, values).fill(np.nan)  # … and so it stays where nothing is written

        def run(unwritten: list[NDArray[Any]]) -> None:
            self._run_unscheduled(mod, unwritten)

        source = case.fill(mod["main"], job.arguments, values, gpu_reference.output, run)
        case.save(Path(job.case), values)
        return source


class GpuRunner(Runner):
    """Checks and times candidates on this machine's first GPU."""

    def _run(self, job: Run) -> Done:
        task = self._descriptions[job.task]
        values = case.load(task.case)

        def load() -> GpuKernel:
            block = fill_block(task.arguments, values)
            return cuda.OpenLibrary(Path(job.library), block, HERE)

        return measure(job, load, output_of(task.arguments, values), self._settings)


class GpuKernel(Protocol):
    """A candidate on a GPU, its arguments there; as ``cuda_executor.OpenLibrary``."""

    def infer(self) -> None: ...

    def pinned(self, number: int, size: int) -> NDArray[np.uint8]: ...

    def kernel_milliseconds(self, runs: int) -> NDArray[np.float32]: ...

    def close(self) -> None: ...


def measure(
    job: Run, load: Callable[[], GpuKernel], right: NDArray[Any], settings: Settings
) -> Done:
    """Check the candidate that ``load`` opens against ``right``, its only output, and time it.

    ``right`` is NaN where a kernel need not write.

    Raises BadInput where the GPU is no good for the target, OutOfMemory where its memory is full:
    it would be for any other candidate.
    """
    try:
        kernel = load()
        try:
            return _measure(job, kernel, right, settings)
        finally:
            kernel.close()
    except (BadInput, OutOfMemory):
        raise
    except RunFailed as error:
        # a kernel that fails may leave its process one in which every other fails too
        return Done(job.job, cause="run error", detail=str(error)[-200:], ready=False)


def _measure(job: Run, kernel: GpuKernel, right: NDArray[Any], settings: Settings) -> Done:
    kernel.infer()
    output = kernel.pinned(1, right.nbytes).view(right.dtype).reshape(right.shape)
    written = ~np.isnan(right)  # what fills an image up to whole tiles may be anything
    wrong, error_norm = case.wrong([output[written]], [right[written]], settings.tolerance)
    if wrong:
        return Done(job.job, cause="wrong result", detail=wrong)
    limit = float("inf") if job.best_s is None else settings.cut_off * job.best_s

    def repeat() -> float:
        return 1e-3 * float(np.median(kernel.kernel_milliseconds(settings.launches)))

    first = repeat()
    if first > limit:
        return Done(job.job, medians=(first,), cut=True, error=error_norm)
    medians = tuple(repeat() for _ in range(settings.repeats))
    return Done(job.job, medians=medians, error=error_norm)


def output_of(arguments: Sequence[Argument], values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The value of the one argument that a kernel writes."""
    (output,) = (
        value for value, one in zip(values, arguments, strict=True) if one.role == "output"
    )
    return output


def pack(arguments: Sequence[Argument]) -> tuple[list[int], int]:
    """Where each argument that a kernel reads lies in one block, and the block's bytes."""
    offsets, size = [], 0
    for one in arguments:
        offsets.append(size)
        if one.role != "output":
            size += -(-nbytes(one) // ALIGNMENT) * ALIGNMENT
    return offsets, max(size, 1)


def fill_block(arguments: Sequence[Argument], values: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """That block, filled."""
    offsets, size = pack(arguments)
    block = np.zeros(size, np.uint8)
    for one, offset, value in zip(arguments, offsets, values, strict=True):
        if one.role != "output":
            block[offset : offset + value.nbytes] = value.reshape(-1).view(np.uint8)
    return block


def nbytes(argument: Argument) -> int:
    return int(np.prod(argument.shape, dtype=np.int64)) * np.dtype(argument.dtype).itemsize
