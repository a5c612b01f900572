"""Where an inference spends its time, layer by layer, against what this core can do at best."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.kernels.probe_sizes import FMA_FLOPS
from tvm_mobilenet.provenance import Machine, head

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Layer, Manifest

BY_DOT_PRODUCTS = ("quantized_", "bf16_")  # how such kernels are called
TURN = 10  # inferences between two looks at the peaks


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

    @property
    def by_dot_products(self) -> bool:
        """Whether its sums are of bytes or of bfloat16, for which FMAs say nothing."""
        return self.layer.workload.startswith(BY_DOT_PRODUCTS)


@dataclass(frozen=True)
class Profile:
    """Median seconds of each layer and of the whole ``infer``, and one core's peaks."""

    layers: tuple[LayerTime, ...]
    network_s: float
    peaks: Peaks
    threads: int

    @property
    def floor_s(self) -> float | None:
        """All the network's arithmetic at the FMA peak of the threads; None where some is other."""
        if any(one.by_dot_products for one in self.layers):
            return None
        flops = sum(one.layer.flops for one in self.layers)
        return flops / self.peaks.flops_per_s / self.threads


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

    def time_arithmetic(self, runs: int) -> list[float]:
        """Of each of ``runs`` times FMA_FLOPS in registers."""

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
    arithmetic: list[float] = []
    reading: list[float] = []
    elapsed_s, counted, read_bytes = 0.0, 0, 0
    network.warm_up()
    for start in range(0, runs, TURN):
        turn = range(start, min(start + TURN, runs))
        times, read_bytes = network.time_reading(len(turn))
        reading += times
        arithmetic += network.time_arithmetic(len(turn))
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
    peaks = Peaks(FMA_FLOPS / float(np.median(arithmetic)), read_bytes / float(np.median(reading)))
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
            "floor_ms": None if one.floor_s is None else one.floor_s * 1e3,
            "core": dataclasses.asdict(one.peaks),
            "layers": [
                {**dataclasses.asdict(timed.layer), "ms": timed.seconds * 1e3}
                for timed in one.layers
            ],
        }
        for title, one in profiles
    ]
    return json.dumps({**head(machine, command, created), "profiles": measured}, indent=2)
