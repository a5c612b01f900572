"""As ``profile.layers``, of a bundle on a device: its layers against its core's own peaks.

Everything is timed by the device's clock and counter: on aarch64 the virtual counter, which Linux
lets every program read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_mobilenet.benchmark.profile.layers import FLOAT_BYTES, LayerTime, Peaks, Profile
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.kernels.probe_sizes import FMA_FLOPS, SCRATCH_FLOATS, STREAM_ROW
from tvm_mobilenet.remote.session import RemoteSession

# ARMv7's cycle counter belongs to the kernel: reading it ends the process
WITHOUT_COUNTER = ("armv7",)


def profile(session: RemoteSession, runs: int) -> Profile:
    """Time every layer of ``session`` over ``runs`` inferences of what its input holds.

    Raises BadInput where programs on the device may read no counter, RunFailed where it is lost.
    """
    manifest = session.manifest
    if manifest.target.triple.startswith(WITHOUT_COUNTER):
        raise BadInput(f"{session.bundle.path}: ARMv7 lets no program count cycles; no --profile")
    layers = manifest.layers
    stamps = session.empty((len(layers) + 1,), "int64")
    ticks = np.empty((runs, len(layers)), np.int64)
    elapsed_ms, counted = 0.0, 0
    for run in range(runs):
        (ms,) = session.time_function("profile", [*session.arguments, stamps], 1, warmup=0)
        noted = stamps.numpy()
        elapsed_ms += ms
        ticks[run] = np.diff(noted)
        counted += int(noted[-1] - noted[0])
    # no document tells the counter's rate, but both counted the same time
    seconds = np.median(ticks, axis=0) * (elapsed_ms * 1e-3 / counted)
    measured = tuple(LayerTime(layer, float(s)) for layer, s in zip(layers, seconds, strict=True))
    network_s = float(np.median(session.time(runs))) * 1e-3
    return Profile(measured, network_s, peaks(session, runs), session.threads)


def peaks(session: RemoteSession, runs: int) -> Peaks:
    """Run both probes of the bundle on the device; medians, as of the layers."""

    def median_s(name: str, arguments: list[Any]) -> float:
        return float(np.median(session.time_function(name, arguments, runs))) * 1e-3

    # x·0.5 + 0.5 stays at 1: no overflow, no denormal
    scratch = session.tensor(np.full(SCRATCH_FLOATS, 0.5, np.float32))
    rows = session.manifest.parameters_bytes // (STREAM_ROW * FLOAT_BYTES)
    weights = session.tensor(np.ones((rows, STREAM_ROW), np.float32))
    sums = session.empty((STREAM_ROW,), "float32")
    return Peaks(
        FMA_FLOPS / median_s("fma_peak", [scratch]),
        rows * STREAM_ROW * FLOAT_BYTES / median_s("stream_read", [weights, sums]),
    )
