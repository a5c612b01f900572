"""The layers of a bundle that is loaded on a device, for ``layers.profile``.

Everything is timed by the device's clock and counter: on aarch64 the virtual counter, which Linux
lets every program read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.benchmark.profile.turns import ProbedCore
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.kernels.arithmetic import Arithmetic, probe_of
from tvm_mobilenet.kernels.probe_sizes import FLOAT_BYTES, SCRATCH_FLOATS, STREAM_ROW

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Manifest
    from tvm_mobilenet.remote.session import RemoteSession

# ARMv7's cycle counter belongs to the kernel: reading it ends the process
WITHOUT_COUNTER = ("armv7",)
WARM_UP_RUNS = 3


class RemoteNetwork:
    """A session's network on its device.

    Raises BadInput where programs there may read no counter. Its methods raise RunFailed where the
    device is lost.
    """

    def __init__(self, session: RemoteSession) -> None:
        self._session = session
        self.core: ProbedCore | None = None  # the probe is this machine's
        if self.manifest.target.triple.startswith(WITHOUT_COUNTER):
            raise BadInput(
                f"{session.bundle.path}: ARMv7 lets no program count cycles; no --profile"
            )
        self._stamps = session.empty((len(self.manifest.layers) + 1,), "int64")
        # x·0.5 + 0.5 stays at 1: no overflow, no denormal
        self._scratch = session.tensor(np.full(SCRATCH_FLOATS, 0.5, np.float32))
        self._rows = self.manifest.parameters_bytes // (STREAM_ROW * FLOAT_BYTES)
        self._weights = session.tensor(np.ones((self._rows, STREAM_ROW), np.float32))
        self._sums = session.empty((STREAM_ROW,), "float32")

    @property
    def manifest(self) -> Manifest:
        return self._session.manifest

    @property
    def threads(self) -> int:
        return self._session.threads

    def warm_up(self) -> None:
        self._session.time(WARM_UP_RUNS)

    def time_layers(self) -> tuple[float, NDArray[np.int64]]:
        arguments = [*self._session.arguments, self._stamps]
        (milliseconds,) = self._session.time_function("profile", arguments, 1, warmup=0)
        stamps: NDArray[np.int64] = self._stamps.numpy()
        return milliseconds * 1e-3, stamps

    def time_network(self, runs: int) -> list[float]:
        return [one * 1e-3 for one in self._session.time(runs)]

    def time_arithmetic(self, arithmetic: Arithmetic, runs: int) -> list[float]:
        times = self._session.time_function(probe_of(arithmetic), [self._scratch], runs)
        return [one * 1e-3 for one in times]

    def time_reading(self, runs: int) -> tuple[list[float], int]:
        times = self._session.time_function("stream_read", [self._weights, self._sums], runs)
        return [one * 1e-3 for one in times], self._rows * STREAM_ROW * FLOAT_BYTES
