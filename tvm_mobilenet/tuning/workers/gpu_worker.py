"""The worker that measures on the GPU of a device behind TVM's RPC server.

A candidate's library brings all it needs along (cuda/host.c, and gpu_harness.c, its face to RPC):
the device has TVM's runtime and the NVIDIA driver, neither nvcc nor anything of ours.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import gpu
from tvm_mobilenet.runtime import cuda
from tvm_mobilenet.tuning.workers import case, gpu_kernels
from tvm_mobilenet.tuning.workers.device_worker import DeviceWorker
from tvm_mobilenet.tuning.workers.messages import Done, Ready, Run, RunTask


@dataclass(frozen=True)
class _Prepared:
    """What a task's candidates read, in the memory of the device's CPU, and what is right."""

    block: Any
    right: NDArray[Any]


class GpuDeviceWorker(DeviceWorker):
    """Checks and times candidates on the first GPU of whichever device the tracker gives."""

    def _begin(self) -> Ready:
        return replace(super()._begin(), cpu=self._check_gpu())

    def _check_gpu(self) -> str:
        """The GPU and its driver. Raises BadInput where it is not the target's."""
        assert self._device is not None
        library = self._device.library
        status, told = int(library["about"]()), message_of(library)
        cuda.raise_for(status, f"{self._who}: {told}; name another --rpc-key")
        present, expected = gpu.parse(told), self._settings.target["arch"]
        # a newer one would run the code, but its times would not be those of the target
        if present.arch != expected:
            raise BadInput(
                f"{self._who}: its GPU ({present.name}) is {present.arch}, the target's "
                f"{expected}; name --target cuda-{present.arch}, or another --rpc-key"
            )
        return present.described(self._device.read_file(gpu.DRIVER_VERSION) or "")

    def _run(self, job: Run) -> Done:
        prepared: _Prepared = self._arguments(job.task)
        module = self._load(job)

        def load() -> RemoteKernel:
            return RemoteKernel(module, prepared.block, job.timeout_s, self._empty, self._who)

        start = time.monotonic()
        try:
            return gpu_kernels.measure(job, load, prepared.right, self._settings)
        except RuntimeError:
            if time.monotonic() - start < job.timeout_s:
                raise
            # the process on the device ended itself: gpu_harness.c
            return Done(job.job, cause="run timeout", detail="no end in time", ready=False)

    def _prepare(self, task: RunTask) -> _Prepared:
        values = case.load(task.case)
        return _Prepared(
            self._tensor(gpu_kernels.fill_block(task.arguments, values)),
            gpu_kernels.output_of(task.arguments, values),
        )

    def _empty(self, size: int, dtype: str) -> Any:
        return self._tvm.runtime.empty((size,), dtype, self._cpu)


class RemoteKernel:
    """A candidate on the device's GPU, as ``cuda_executor.OpenLibrary`` is one on this machine's.

    Raises BadInput, OutOfMemory and RunFailed as that does, and RuntimeError where the device goes.
    """

    def __init__(self, module: Any, block: Any, limit_s: float, empty: Any, who: str) -> None:
        """``block`` is what it reads, ``limit_s`` until when it must be closed again.

        ``empty`` makes a tensor of so many elements of a dtype on the device.
        """
        self._module, self._empty, self._who = module, empty, who
        self._call("open", block, float(limit_s))

    def infer(self) -> None:
        """Run it once."""
        self._call("infer")

    def pinned(self, number: int, size: int) -> NDArray[np.uint8]:
        """A copy of what the last run wrote, ``size`` bytes of its one output, number 1."""
        assert number == 1
        copy = self._empty(size, "uint8")
        self._call("output", copy)
        told: NDArray[np.uint8] = copy.numpy()
        return told

    def kernel_milliseconds(self, runs: int) -> NDArray[np.float32]:
        """Of the kernel alone, by the GPU's own clock: ``runs`` samples, one after the other."""
        samples = self._empty(runs, "float32")
        self._call("time", samples)
        told: NDArray[np.float32] = samples.numpy()
        return told

    def close(self) -> None:
        """Give the GPU's memory back; where the device has gone, that is done."""
        with contextlib.suppress(RuntimeError):
            self._call("close")

    def _call(self, name: str, *arguments: Any) -> None:
        status = int(self._module[name](*arguments))
        if status:
            cuda.raise_for(status, f"{self._who}: {message_of(self._module)}")


def message_of(module: Any) -> str:
    """What a function of gpu_harness.c left to say."""
    return bytes(module["message"]()).decode(errors="replace")
