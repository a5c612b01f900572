"""The layers of a bundle that is loaded on this machine, for ``layers.profile``."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.benchmark.profile.turns import ProbedCore
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware.core_probe import CompanyProbe, CoreProbe
from tvm_mobilenet.kernels.arithmetic import Arithmetic, dot_products_of, probe_of
from tvm_mobilenet.kernels.probe_sizes import FLOAT_BYTES, SCRATCH_FLOATS, STREAM_ROW
from tvm_mobilenet.runtime import arena
from tvm_mobilenet.runtime.cpu import StaticExecutor

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Manifest
    from tvm_mobilenet.runtime.library import Context
    from tvm_mobilenet.runtime.session import Session

WARM_UP_S = 0.3


class LocalCore:
    """This thread's core. Raises OSError where it cannot be probed."""

    def __init__(self) -> None:
        self._probe, self._company = CoreProbe(), CompanyProbe()

    def nops_per_cycle(self) -> float:
        return self._probe.nops_per_cycle()

    def company_share(self) -> float:
        return self._company.share()


class LocalNetwork:
    """A session's network, by this process's clock and this CPU's cycle counter."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.core: ProbedCore | None = None
        with contextlib.suppress(OSError):  # without, there is one state
            self.core = LocalCore()
        context = context_of(session)
        self._stamps = share_array((len(self.manifest.layers) + 1,), np.int64)
        self._run_stamped = lambda: context.profile(self._stamps)

        # kept as long as its address
        self._scratch = share_array((SCRATCH_FLOATS,), np.float32)
        self._scratch[:] = 0.5  # x·0.5 + 0.5 stays at 1: no overflow, no denormal
        kinds = dot_products_of(layer.workload for layer in self.manifest.layers)
        probes = {kind: context.function(probe_of(kind), ctypes.c_void_p) for kind in kinds}
        probes["fma"] = context.function(probe_of("fma"), ctypes.c_void_p)
        self._multiply = {
            kind: functools.partial(probe, self._scratch.ctypes.data)
            for kind, probe in probes.items()
        }

        # as many bytes as the weights are; which ones makes no difference
        weights = share_array((self.manifest.parameters_bytes,), np.uint8)
        rows = weights.nbytes // (STREAM_ROW * FLOAT_BYTES)
        self._read_bytes = rows * STREAM_ROW * FLOAT_BYTES
        sums = share_array((STREAM_ROW,), np.float32)
        read = context.function("stream_read", ctypes.c_void_p, ctypes.c_void_p)
        self._read = lambda: read(weights.ctypes.data, sums.ctypes.data)

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

    def time_arithmetic(self, arithmetic: Arithmetic, runs: int) -> list[float]:
        return time_calls(self._multiply[arithmetic], runs)

    def time_reading(self, runs: int) -> tuple[list[float], int]:
        return time_calls(self._read, runs), self._read_bytes


def context_of(session: Session) -> Context:
    """The session's C library. Raises BadInput for a bundle that has none."""
    executor = session.executor
    if not isinstance(executor, StaticExecutor):
        raise BadInput(
            f"{session.bundle.path}: --profile is for bundles of the static executor on a CPU; "
            "compile it with --executor static"
        )
    return executor.context


def share_array(shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """An array in memory that is aligned as the compiled code expects."""
    (block,) = arena.allocate([int(np.prod(shape)) * np.dtype(dtype).itemsize])
    array: NDArray[Any] = block.view(dtype).reshape(shape)
    return array


def time_calls(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of ``runs`` calls."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - begin) * 1e-9)
    return times
