"""The layers of a bundle that is loaded on this machine, for ``layers.profile``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.kernels.probe_sizes import FLOAT_BYTES, SCRATCH_FLOATS, STREAM_ROW
from tvm_mobilenet.runtime import arena

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Manifest
    from tvm_mobilenet.runtime.session import Session

WARM_UP_S = 0.3


class LocalNetwork:
    """A session's network, by this process's clock and this CPU's cycle counter."""

    def __init__(self, session: Session) -> None:
        self._session = session
        function = session.executor.function
        self._stamps, stamps_tensor = share_array((len(self.manifest.layers) + 1,), np.int64)
        profile, arguments = function("profile"), (*session.executor.arguments, stamps_tensor)
        self._run_stamped = lambda: profile(*arguments)

        scratch, scratch_tensor = share_array((SCRATCH_FLOATS,), np.float32)
        scratch[:] = 0.5  # x·0.5 + 0.5 stays at 1: no overflow, no denormal
        multiply = function("fma_peak")
        self._multiply = lambda: multiply(scratch_tensor)

        weights = session.executor.parameters
        rows = weights.nbytes // (STREAM_ROW * FLOAT_BYTES)
        self._read_bytes = rows * STREAM_ROW * FLOAT_BYTES
        matrix = weights[: self._read_bytes].view(np.float32).reshape(rows, STREAM_ROW)
        matrix_tensor = tvm_runtime.ffi().from_dlpack(matrix)
        _, sums_tensor = share_array((STREAM_ROW,), np.float32)
        read = function("stream_read")
        self._read = lambda: read(matrix_tensor, sums_tensor)

    @property
    def manifest(self) -> Manifest:
        return self._session.manifest

    @property
    def threads(self) -> int:
        return self._session.threads

    def warm_up(self) -> None:
        end = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < end:
            self._session.infer_in_place()

    def time_layers(self) -> tuple[float, NDArray[np.int64]]:
        (seconds,) = time_calls(self._run_stamped, 1)
        return seconds, self._stamps

    def time_network(self, runs: int) -> list[float]:
        return time_calls(self._session.infer_in_place, runs)

    def time_arithmetic(self, runs: int) -> list[float]:
        return time_calls(self._multiply, runs)

    def time_reading(self, runs: int) -> tuple[list[float], int]:
        return time_calls(self._read, runs), self._read_bytes


def share_array(shape: tuple[int, ...], dtype: type) -> tuple[NDArray[Any], Any]:
    """An array and the DLPack tensor over the same, suitably aligned memory."""
    (block,) = arena.allocate([int(np.prod(shape)) * np.dtype(dtype).itemsize])
    array: NDArray[Any] = block.view(dtype).reshape(shape)
    return array, tvm_runtime.ffi().from_dlpack(array)


def time_calls(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of ``runs`` calls."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - begin) * 1e-9)
    return times
