"""The file that ``bench --profile --json`` writes, for those who show it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tvm_mobilenet import strict
from tvm_mobilenet.kernels.arithmetic import Arithmetic, arithmetic_of
from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.strict import Amount, Count

FORMAT_VERSION = 1
# what the peak of each kind of arithmetic is called in a file
PEAK_NAMES: dict[Arithmetic, str] = {
    "fma": "flops_per_s",
    "bytes": "byte_operations_per_s",
    "bf16": "bf16_flops_per_s",
    "fp16": "fp16_flops_per_s",
    "bytes_tiles": "byte_tile_operations_per_s",
    "bf16_tiles": "bf16_tile_flops_per_s",
}


@dataclass(frozen=True)
class Core:
    """One core's own bounds, measured in the same run: flop/s in registers, bytes/s of weights.

    Those of dot products are None where the network has none, and in files from before they were
    measured.
    """

    flops_per_s: Amount
    bytes_per_s: Amount
    byte_operations_per_s: Amount | None = None
    bf16_flops_per_s: Amount | None = None
    fp16_flops_per_s: Amount | None = None
    byte_tile_operations_per_s: Amount | None = None
    bf16_tile_flops_per_s: Amount | None = None

    def peak(self, arithmetic: Arithmetic) -> float | None:
        """Operations a second of a kind, None where that is not known."""
        return float(value) if (value := getattr(self, PEAK_NAMES[arithmetic])) else None


@dataclass(frozen=True)
class LayerProfile:
    """A layer: what the bundle's manifest says of it, and its time in ms within the network.

    ``flops`` and ``nbytes`` are its floating-point operations and the bytes of its inputs, weights
    and output; ``latency_us`` is its tuning record's, where it has one.
    """

    name: str
    workload: str
    tuned: bool
    ms: Amount
    latency_us: Amount | None = None
    how: str | None = None
    date: str | None = None
    flops: int = 0
    nbytes: int = 0
    own: bool = True

    @property
    def kind(self) -> str:
        """Its kernel without the sizes: ``pointwise_conv2d`` of ``pointwise_conv2d_7x7x512_64``."""
        return re.split(r"_(?=\d)", self.workload)[0]

    @property
    def arithmetic(self) -> Arithmetic:
        return arithmetic_of(self.workload)

    @property
    def gflops(self) -> float:
        return self.flops / self.ms / 1e6

    @property
    def intensity(self) -> float:
        """FLOP for each byte that has to move."""
        return self.flops / self.nbytes


@dataclass(frozen=True)
class ProfiledState:
    """An inference in one state of the core, ``alone`` or ``shared``, and its share of them all."""

    state: str
    share: Amount
    network_ms: Amount
    floor_ms: Amount
    core: Core


@dataclass(frozen=True)
class Profiled:
    """The layers of one bundle on some threads.

    ``floor_ms`` is None in files from before dot products were measured, with kernels made of them.
    Where the core had two states, everything is of the one in ``state``, with what the core could
    do in it; ``states`` has both.
    """

    title: str
    threads: Count
    network_ms: Amount
    core: Core
    layers: tuple[LayerProfile, ...]
    floor_ms: Amount | None = None
    state: str | None = None
    states: tuple[ProfiledState, ...] = ()

    def peak(self, layer: LayerProfile) -> float | None:
        """Operations a second of what the layer is made of, on all threads."""
        peak = self.core.peak(layer.arithmetic)
        return None if peak is None else peak * self.threads

    def bound_ms(self, layer: LayerProfile) -> float | None:
        """What a layer takes at least, by arithmetic or by memory; None where that is not known."""
        arithmetic = self.arithmetic_ms(layer)
        return None if arithmetic is None else max(arithmetic, self.memory_ms(layer))

    def arithmetic_ms(self, layer: LayerProfile) -> float | None:
        peak = self.peak(layer)
        return None if peak is None else layer.flops / peak * 1e3

    def memory_ms(self, layer: LayerProfile) -> float:
        return layer.nbytes / self.core.bytes_per_s / self.threads * 1e3


@dataclass(frozen=True)
class Profiles:
    """A whole file of profiles."""

    machine: Machine
    profiles: tuple[Profiled, ...]
    command: str | None = None
    created: str | None = None
    format_version: int = FORMAT_VERSION


def read(document: Any) -> Profiles:
    """The file's content, parsed. Raises strict.Unexpected where it departs from the format."""
    strict.check_version(document, FORMAT_VERSION)
    found = strict.read(Profiles, document)
    for place, profile in enumerate(found.profiles):
        for number, layer in enumerate(profile.layers):
            if layer.ms <= 0:
                where = (".profiles", f"[{place}]", ".layers", f"[{number}]", ".ms")
                raise strict.Unexpected("expected a latency above 0", *where)
    return found
