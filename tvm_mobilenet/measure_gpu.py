"""The tuner's builder and runner for NVIDIA GPUs: the worker processes of measure_worker.py there.

A candidate becomes a library like a network's, of one launch. It is checked against the unscheduled
kernel, which runs on the CPU, and timed by the GPU's own clock, launches back to back. Weights stay
in the L2 cache between calls, where those of a MobileNet stay between inferences too.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import cuda_executor, measure_worker
from tvm_mobilenet.errors import TvmMobilenetError
from tvm_mobilenet.measure_messages import Argument, Build, Done, Run, RunTask, Settings
from tvm_mobilenet.measure_worker import _Arguments

ALIGNMENT = 256  # bytes, as GPU allocations are
CALLS = 20  # launches in a repeat; the GPU's clock counts in half microseconds


class Builder(measure_worker.Builder):
    """Compiles candidates by nvcc; the reference, which has no schedule, for the CPU."""

    def _compile(self, job: Build) -> None:
        import tvm

        from tvm_mobilenet.lowering import lower

        mod = self._workloads[job.task]
        if job.trace_json is None:
            self._write(lower(mod, tvm.target.Target("llvm")), job.library)
            return
        from tvm_mobilenet.cuda import library
        from tvm_mobilenet.cuda.program import OUTPUTS, PARAMETERS, GpuProgram, Place, Step
        from tvm_mobilenet.measure import arguments_of

        scheduled = self._replay(mod, job.trace_json).mod
        arguments = arguments_of(mod)
        offsets, size = pack(arguments)
        places = tuple(
            Place(OUTPUTS) if one.role == "output" else Place(PARAMETERS, offset)
            for one, offset in zip(arguments, offsets, strict=True)
        )
        (output,) = (nbytes(one) for one in arguments if one.role == "output")
        program = GpuProgram(
            {"main": scheduled["main"]},
            (Step("main", places),),
            b"",
            (size, 1, 1, output),
            (),
        )
        code = library.generate(program, self._target, "cuda")
        library.link(code, Path(job.library), "cuda", None)


class Runner(measure_worker.Runner):
    """Checks and times candidates on this machine's first GPU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._packed: dict[int, NDArray[np.uint8]] = {}

    def _run(self, job: Run) -> Done:
        arguments = self._arguments(job.task)
        described = self._descriptions[job.task]
        if job.task not in self._packed:
            self._packed[job.task] = packed(described, arguments)
        try:
            kernel = cuda_executor.OpenLibrary(Path(job.library), self._packed[job.task])
        except TvmMobilenetError as error:
            return Done(job.job, 0, 0, "run error", str(error)[-200:])
        try:
            return self._measure(job, kernel, arguments)
        except TvmMobilenetError as error:
            return Done(job.job, 0, 0, "run error", str(error)[-200:])
        finally:
            kernel.close()

    def _measure(self, job: Run, kernel: cuda_executor.OpenLibrary, arguments: _Arguments) -> Done:
        settings = self._settings
        (output,) = arguments.outputs
        kernel.infer()
        output[...] = kernel.pinned(1, output.nbytes).view(output.dtype).reshape(output.shape)
        wrong, error_norm = arguments.check(settings.tolerance)
        if wrong:
            return Done(job.job, 0, 0, "wrong result", wrong)
        limit = float("inf") if job.best_s is None else settings.cut_off * job.best_s
        first = 1e-3 * float(np.median(kernel.kernel_milliseconds(CALLS)))
        if first > limit:
            return Done(job.job, 0, 0, None, "", (first,), True, error_norm)
        medians = tuple(
            1e-3 * statistics.median(map(float, kernel.kernel_milliseconds(CALLS)))
            for _ in range(settings.repeats)
        )
        return Done(job.job, 0, 0, None, "", medians, False, error_norm)


def pack(arguments: tuple[Argument, ...]) -> tuple[list[int], int]:
    """Where each argument that a kernel reads lies in one block, and the block's bytes."""
    offsets, size = [], 0
    for one in arguments:
        offsets.append(size)
        if one.role != "output":
            size += -(-nbytes(one) // ALIGNMENT) * ALIGNMENT
    return offsets, max(size, 1)


def packed(task: RunTask, arguments: _Arguments) -> NDArray[np.uint8]:
    offsets, size = pack(task.arguments)
    block = np.zeros(size, np.uint8)
    for one, offset, value in zip(task.arguments, offsets, arguments.values, strict=True):
        if one.role != "output":
            block[offset : offset + value.nbytes] = value.reshape(-1).view(np.uint8)
    return block


def nbytes(argument: Argument) -> int:
    return int(np.prod(argument.shape, dtype=np.int64)) * np.dtype(argument.dtype).itemsize
