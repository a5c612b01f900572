"""Where an inference spends its time, layer by layer, against what this core can do at best."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.kernels.arithmetic import Arithmetic, arithmetic_of, dot_products_of
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS
from tvm_mobilenet.provenance import Machine, head
from tvm_mobilenet.results.profiles import PEAK_NAMES

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Layer, Manifest

TURN = 10  # inferences between two looks at the peaks


@dataclass(frozen=True)
class Peaks:
    """One core's own bounds, measured here and now: in registers, and bytes/s of weights.

    ``operations_per_s`` are additions and multiplications by FMAs, and by dot products where the
    network has such.
    """

    operations_per_s: Mapping[Arithmetic, float]
    bytes_per_s: float

    def arithmetic_s(self, layer: Layer) -> float:
        """By the peak of what the layer is made of."""
        return layer.flops / self.operations_per_s[arithmetic_of(layer.workload)]

    def memory_s(self, layer: Layer) -> float:
        return layer.nbytes / self.bytes_per_s


@dataclass(frozen=True)
class LayerTime:
    layer: Layer
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Median seconds of each layer and of the whole ``infer``, and one core's peaks."""

    layers: tuple[LayerTime, ...]
    network_s: float
    peaks: Peaks
    threads: int

    @property
    def floor_s(self) -> float:
        """All the network's arithmetic, each layer's at its own peak, on all of the threads."""
        return sum(self.peaks.arithmetic_s(one.layer) for one in self.layers) / self.threads


class ProfiledNetwork(Protocol):
    """A loaded bundle whose layers and whose core can be timed, here or on a device. In seconds."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def threads(self) -> int: ...

    def warm_up(self) -> None:
        """Run until it is steady."""

    def time_layers(self) -> tuple[float, NDArray[np.int64]]:
        """One inference: its time, and a counter before the first and after every layer."""

    def time_network(self, runs: int) -> list[float]:
        """Of each of ``runs`` inferences."""

    def time_arithmetic(self, arithmetic: Arithmetic, runs: int) -> list[float]:
        """Of each of ``runs`` times PEAK_OPERATIONS of a kind in registers."""

    def time_reading(self, runs: int) -> tuple[list[float], int]:
        """Of each of ``runs`` readings of the weights, and how many bytes that is."""


def profile(network: ProfiledNetwork, runs: int) -> Profile:
    """Time every layer over ``runs`` inferences of what the network's input holds.

    Layers are timed with the CPU's counter inside the compiled network, so they run as they always
    do: weights from where the last inference left them, inputs from the layer before. Layers, whole
    inferences and the core's peaks take turns, since a shared machine's speed changes from one
    second to the next; each figure is a median.
    """
    layers = network.manifest.layers
    ticks = np.empty((runs, len(layers)), np.int64)
    whole: list[float] = []
    reading: list[float] = []
    kinds: tuple[Arithmetic, ...] = ("fma", *dot_products_of(layer.workload for layer in layers))
    arithmetic: dict[Arithmetic, list[float]] = {kind: [] for kind in kinds}
    elapsed_s, counted, read_bytes = 0.0, 0, 0
    network.warm_up()
    for start in range(0, runs, TURN):
        turn = range(start, min(start + TURN, runs))
        times, read_bytes = network.time_reading(len(turn))
        reading += times
        for kind, found in arithmetic.items():
            found += network.time_arithmetic(kind, len(turn))
        for run in turn:
            seconds, stamps = network.time_layers()
            elapsed_s += seconds
            ticks[run] = np.diff(stamps)
            counted += int(stamps[-1] - stamps[0])
        whole += network.time_network(len(turn))
    # no document tells the counter's rate, but both counted the same time
    of_layers = np.median(ticks, axis=0) * (elapsed_s / counted)
    timed = tuple(LayerTime(layer, float(s)) for layer, s in zip(layers, of_layers, strict=True))
    # by the medians, as of the layers that are held against them
    peaks = Peaks(
        {kind: PEAK_OPERATIONS / float(np.median(found)) for kind, found in arithmetic.items()},
        read_bytes / float(np.median(reading)),
    )
    return Profile(timed, float(np.median(whole)), peaks, network.threads)


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
            "core": core_of(one.peaks),
            "layers": [
                {**dataclasses.asdict(timed.layer), "ms": timed.seconds * 1e3}
                for timed in one.layers
            ],
        }
        for title, one in profiles
    ]
    return json.dumps({**head(machine, command, created), "profiles": measured}, indent=2)


def core_of(peaks: Peaks) -> dict[str, float]:
    """As ``results.profiles.Core`` has it: of dot products what the network has."""
    operations = {PEAK_NAMES[kind]: value for kind, value in peaks.operations_per_s.items()}
    return {**operations, "bytes_per_s": peaks.bytes_per_s}
