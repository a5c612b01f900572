"""Where an inference spends its time, layer by layer, against what this core can do at best."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.kernels.probe_sizes import FMA_FLOPS, SCRATCH_FLOATS, STREAM_ROW
from tvm_mobilenet.provenance import Machine, head
from tvm_mobilenet.runtime import arena
from tvm_mobilenet.runtime.session import Session

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_mobilenet.bundle import Layer

WARM_UP_S = 0.3
TURN = 10  # inferences between two looks at the peaks
FLOAT_BYTES = 4
TABLE_WIDTH = 112


@dataclass(frozen=True)
class Peaks:
    """One core's own bounds, measured here and now: flop/s in registers, bytes/s of weights."""

    flops_per_s: float
    bytes_per_s: float

    def arithmetic_s(self, layer: Layer) -> float:
        return layer.flops / self.flops_per_s

    def memory_s(self, layer: Layer) -> float:
        return layer.nbytes / self.bytes_per_s


@dataclass(frozen=True)
class LayerTime:
    layer: Layer
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Median seconds of each layer and of the whole `infer`, and one core's peaks."""

    layers: tuple[LayerTime, ...]
    network_s: float
    peaks: Peaks
    threads: int

    @property
    def floor_s(self) -> float:
        """All the network's arithmetic at the FMA peak of the threads."""
        flops = sum(one.layer.flops for one in self.layers)
        return flops / self.peaks.flops_per_s / self.threads


def profile(session: Session, runs: int = 300) -> Profile:
    """Time every layer of `session` over `runs` inferences of what its input holds.

    Layers are timed with the CPU's cycle counter inside the compiled network, so they run as they
    always do: weights from where the last inference left them, inputs from the layer before.
    Layers, whole inferences and the core's peaks take turns, since a shared machine's speed changes
    from one second to the next; each figure is a median.
    """
    layers = session.manifest.layers
    stamps, tensor = shared_array((len(layers) + 1,), np.int64)
    stamped = session.executor.function("profile")
    arguments = (*session.executor.arguments, tensor)
    probes = Probes(session)
    warm_up(session.infer_in_place)
    ticks = np.empty((runs, len(layers)), np.int64)
    whole: list[float] = []
    elapsed_ns = counted = 0
    for start in range(0, runs, TURN):
        turn = range(start, min(start + TURN, runs))
        probes.run(len(turn))
        for run in turn:
            begin = time.perf_counter_ns()
            stamped(*arguments)
            elapsed_ns += time.perf_counter_ns() - begin
            ticks[run] = np.diff(stamps)
            counted += int(stamps[-1] - stamps[0])
        whole += times_of(session.infer_in_place, len(turn))
    # no document tells the counter's rate, but both counted the same time
    seconds = np.median(ticks, axis=0) * (elapsed_ns * 1e-9 / counted)
    measured = tuple(LayerTime(layer, float(s)) for layer, s in zip(layers, seconds, strict=True))
    return Profile(measured, float(np.median(whole)), probes.peaks(), session.threads)


class Probes:
    """Both probes of a session's bundle, with the times they took so far."""

    def __init__(self, session: Session) -> None:
        scratch, scratch_tensor = shared_array((SCRATCH_FLOATS,), np.float32)
        scratch[:] = 0.5  # x·0.5 + 0.5 stays at 1: no overflow, no denormal
        fma = session.executor.function("fma_peak")
        self.fma = lambda: fma(scratch_tensor)

        weights = session.executor.parameters
        rows = weights.nbytes // (STREAM_ROW * FLOAT_BYTES)
        self.read_bytes = rows * STREAM_ROW * FLOAT_BYTES
        matrix = weights[: self.read_bytes].view(np.float32).reshape(rows, STREAM_ROW)
        matrix_tensor = tvm_runtime.ffi().from_dlpack(matrix)
        _, sums_tensor = shared_array((STREAM_ROW,), np.float32)
        read = session.executor.function("stream_read")
        self.read = lambda: read(matrix_tensor, sums_tensor)

        self.fma_s: list[float] = []
        self.read_s: list[float] = []

    def run(self, times: int) -> None:
        self.read_s += times_of(self.read, times)
        self.fma_s += times_of(self.fma, times)

    def peaks(self) -> Peaks:
        """By the medians, as of the layers that are held against them."""
        return Peaks(
            FMA_FLOPS / float(np.median(self.fma_s)),
            self.read_bytes / float(np.median(self.read_s)),
        )


def shared_array(shape: tuple[int, ...], dtype: type) -> tuple[NDArray[Any], Any]:
    """An array and the DLPack tensor over the same, suitably aligned memory."""
    (block,) = arena.allocate([int(np.prod(shape)) * np.dtype(dtype).itemsize])
    array: NDArray[Any] = block.view(dtype).reshape(shape)
    return array, tvm_runtime.ffi().from_dlpack(array)


def warm_up(call: Callable[[], object]) -> None:
    end = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < end:
        call()


def times_of(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of `runs` calls."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - begin) * 1e-9)
    return times


def to_json(
    profiles: Sequence[tuple[str, Profile]], machine: Machine, command: str, created: str
) -> str:
    """The text of a file with these titles and profiles; times in ms."""
    measured = [
        {
            "title": title,
            "threads": one.threads,
            "network_ms": one.network_s * 1e3,
            "floor_ms": one.floor_s * 1e3,
            "core": dataclasses.asdict(one.peaks),
            "layers": [
                {**dataclasses.asdict(timed.layer), "ms": timed.seconds * 1e3}
                for timed in one.layers
            ],
        }
        for title, one in profiles
    ]
    return json.dumps({**head(machine, command, created), "profiles": measured}, indent=2)


def print_profile(console: Console, title: str, result: Profile) -> None:
    """The table: a row a layer, then the sums, the peaks and the floor."""
    from rich import box
    from rich.table import Table

    peaks, total = result.peaks, sum(one.seconds for one in result.layers)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("kernel", "µs", "share", "GFLOP/s", "GB/s", "of its bound", "by", "schedule"):
        words = heading in ("kernel", "by", "schedule")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for one in result.layers:
        arithmetic, memory = peaks.arithmetic_s(one.layer), peaks.memory_s(one.layer)
        bound = max(arithmetic, memory) / result.threads
        table.add_row(
            one.layer.workload,
            f"{one.seconds * 1e6:.1f}",
            f"{one.seconds / total:.1%}",
            f"{one.layer.flops / one.seconds / 1e9:.1f}",
            f"{one.layer.nbytes / one.seconds / 1e9:.1f}",
            f"{bound / one.seconds:.0%}",
            "arithmetic" if arithmetic >= memory else "memory",
            "tuned" if one.layer.tuned else "default",
        )
    # never narrower than its cells: a cut-off kernel name says nothing
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    console.print(
        f"layers {total * 1e3:.3f} ms, infer {result.network_s * 1e3:.3f} ms; one core: "
        f"{peaks.flops_per_s / 1e9:.0f} GFLOP/s in registers, {peaks.bytes_per_s / 1e9:.0f} GB/s "
        f"reading these weights\nFMA floor {result.floor_s * 1e3:.3f} ms on {result.threads} "
        f"thread{'s' if result.threads > 1 else ''}: infer takes "
        f"{result.network_s / result.floor_s:.2f} times the floor",
        highlight=False,
        soft_wrap=True,
    )
