"""Where an inference spends its time, layer by layer, against what this core can do at best."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_mobilenet.benchmark import core_states
from tvm_mobilenet.benchmark.profile.turns import ProfiledNetwork, Turns
from tvm_mobilenet.kernels.arithmetic import Arithmetic, arithmetic_of, dot_products_of
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS
from tvm_mobilenet.provenance import Machine, head
from tvm_mobilenet.results.profiles import PEAK_NAMES

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Layer

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
class StateProfile:
    """The whole ``infer`` in one state of the core, and what the core could do in it.

    ``share`` is of the inferences: those whose readings before and after say so.
    """

    state: str
    share: float
    network_s: float
    floor_s: float
    peaks: Peaks


@dataclass(frozen=True)
class Profile:
    """Median seconds of each layer and of the whole ``infer``, and one core's peaks.

    Where the core had two states (``core_states``), all of it is of one ``state``, and ``states``
    has both. Peaks are then those of products that have one other instruction each for company,
    as they have in kernels: a shared core does not reach the peak in registers with any.
    """

    layers: tuple[LayerTime, ...]
    network_s: float
    peaks: Peaks
    threads: int
    state: str | None = None
    inferences: int = 0
    states: tuple[StateProfile, ...] = ()

    @property
    def floor_s(self) -> float:
        """All the network's arithmetic, each layer's at its own peak, on all of the threads."""
        return sum(self.peaks.arithmetic_s(one.layer) for one in self.layers) / self.threads


def profile(network: ProfiledNetwork, runs: int) -> Profile:
    """Time every layer over ``runs`` inferences of what the network's input holds.

    Layers are timed with the CPU's counter inside the compiled network, so they run as they always
    do: weights from where the last inference left them, inputs from the layer before. Layers, whole
    inferences and the core's peaks take turns, since a shared machine's speed changes from one
    second to the next; each figure is a median.

    Where the core's probe finds two states, the figures are of the one that more inferences were
    in, and so is the peak that they are held against (``Profile``).
    """
    kinds = dot_products_of(layer.workload for layer in network.manifest.layers)
    turns = Turns(network, ("fma", *kinds))
    network.warm_up()
    for start in range(0, runs, TURN):
        turns.take(min(TURN, runs - start))
    shared_below = core_states.boundary(turns.readings())
    if shared_below is None:
        return _profile_of(turns, network, None)
    states = {}
    for name, shared in (("alone", False), ("shared", True)):
        taken = turns.in_state(shared_below, shared=shared)
        if taken is not None:
            states[name] = _profile_of(taken, network, name)
    if not states:  # it changed within everything that was timed
        return _profile_of(turns, network, None)
    most = max(states.values(), key=lambda one: one.inferences)
    summaries = tuple(
        StateProfile(name, one.inferences / runs, one.network_s, one.floor_s, one.peaks)
        for name, one in states.items()
    )
    return dataclasses.replace(most, states=summaries)


def _profile_of(turns: Turns, network: ProfiledNetwork, state: str | None) -> Profile:
    """By the medians of what was timed; in a ``state`` with the peaks that FMAs have in company."""
    layers = network.manifest.layers
    # no document tells the counter's rate, but both counted the same time
    seconds_per_tick = turns.elapsed_s / turns.counted
    of_layers = np.median(np.array(turns.ticks.values), axis=0) * seconds_per_tick
    timed = tuple(LayerTime(layer, float(s)) for layer, s in zip(layers, of_layers, strict=True))
    kept = 1.0 if state is None else float(np.median(turns.company.values))
    # by the medians, as of the layers that are held against them
    peaks = Peaks(
        {
            kind: kept * PEAK_OPERATIONS / float(np.median(found.values))
            for kind, found in turns.arithmetic.items()
        },
        turns.read_bytes / float(np.median(turns.reading.values)),
    )
    whole = float(np.median(turns.whole.values))
    return Profile(timed, whole, peaks, network.threads, state, len(turns.ticks.values))


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
            **_states_of(one),
            "layers": [
                {**dataclasses.asdict(timed.layer), "ms": timed.seconds * 1e3}
                for timed in one.layers
            ],
        }
        for title, one in profiles
    ]
    return json.dumps({**head(machine, command, created), "profiles": measured}, indent=2)


def _states_of(one: Profile) -> dict[str, Any]:
    """Nothing where the core had one state."""
    if one.state is None:
        return {}
    states = [
        {
            "state": each.state,
            "share": each.share,
            "network_ms": each.network_s * 1e3,
            "floor_ms": each.floor_s * 1e3,
            "core": core_of(each.peaks),
        }
        for each in one.states
    ]
    return {"state": one.state, "states": states}


def core_of(peaks: Peaks) -> dict[str, float]:
    """As ``results.profiles.Core`` has it: of dot products what the network has."""
    operations = {PEAK_NAMES[kind]: value for kind, value in peaks.operations_per_s.items()}
    return {**operations, "bytes_per_s": peaks.bytes_per_s}
