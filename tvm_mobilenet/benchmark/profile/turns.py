"""What a profile is made of, timed in turns: layers, whole inferences, and what the core can do.

Beside each stands what the core's probe read before and after, where there is one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.kernels.arithmetic import Arithmetic

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Manifest

FEWEST = 5  # of everything, of which a state has figures


class ProbedCore(Protocol):
    """The core that the calling thread runs on."""

    def nops_per_cycle(self) -> float:
        """As ``hardware.core_probe.CoreProbe``."""

    def company_share(self) -> float:
        """As ``hardware.core_probe.CompanyProbe.share``."""


class ProfiledNetwork(Protocol):
    """A loaded bundle whose layers and whose core can be timed, here or on a device. In seconds."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def threads(self) -> int: ...

    @property
    def core(self) -> ProbedCore | None:
        """None where it cannot be probed."""

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


@dataclass
class Series:
    """One thing timed again and again, with the readings before and after each time."""

    values: list[Any] = field(default_factory=list)
    around: list[tuple[float, float]] = field(default_factory=list)

    def in_state(self, shared_below: float, *, shared: bool) -> Series:
        """What was timed while all readings said so."""
        kept = [
            place
            for place, readings in enumerate(self.around)
            if all((one < shared_below) == shared for one in readings)
        ]
        return Series([self.values[i] for i in kept], [self.around[i] for i in kept])


@dataclass
class Turns:
    """All that was timed so far. ``ticks`` are of each layer, by a counter; the rest is seconds,
    but for ``company``, the shares of ``CompanyProbe``."""

    network: ProfiledNetwork
    kinds: tuple[Arithmetic, ...]
    ticks: Series = field(default_factory=Series)
    whole: Series = field(default_factory=Series)
    reading: Series = field(default_factory=Series)
    company: Series = field(default_factory=Series)
    arithmetic: dict[Arithmetic, Series] = field(default_factory=dict)
    read_bytes: int = 0
    # by both clocks, of all inferences that ``ticks`` has
    elapsed_s: float = 0.0
    counted: int = 0

    def __post_init__(self) -> None:
        self.arithmetic = self.arithmetic or {kind: Series() for kind in self.kinds}

    def take(self, runs: int) -> None:
        """``runs`` of everything, one kind after the other."""
        network, core = self.network, self.network.core

        def read_weights(count: int) -> list[float]:
            times, self.read_bytes = network.time_reading(count)
            return times

        self._time(self.reading, runs, read_weights)
        for kind, series in self.arithmetic.items():
            self._time(series, runs, functools.partial(network.time_arithmetic, kind))
        if core is not None:
            shares = core.company_share
            self._time(self.company, runs, lambda count: [shares() for _ in range(count)])
        self.take_layers(runs)
        self._time(self.whole, runs, network.time_network)

    def take_layers(self, runs: int) -> None:
        """``runs`` inferences, layer by layer."""
        self._time(self.ticks, runs, lambda count: [self._time_layers() for _ in range(count)])

    def _time(self, series: Series, runs: int, measure: Callable[[int], list[Any]]) -> None:
        """By itself where the core can be probed, else all at once: a device is far away."""
        core = self.network.core
        if core is None:
            series.values += measure(runs)
            return
        before = core.nops_per_cycle()
        for _ in range(runs):
            series.values += measure(1)
            after = core.nops_per_cycle()
            series.around.append((before, after))
            before = after

    def _time_layers(self) -> NDArray[np.int64]:
        seconds, stamps = self.network.time_layers()
        self.elapsed_s += seconds
        self.counted += int(stamps[-1] - stamps[0])
        return np.diff(stamps)

    def _all(self) -> Iterator[Series]:
        yield from (self.ticks, self.whole, self.reading, self.company)
        yield from self.arithmetic.values()

    def readings(self) -> list[float]:
        """One after everything that was timed."""
        return [after for series in self._all() for _, after in series.around]

    def in_state(self, shared_below: float, *, shared: bool) -> Turns | None:
        """What was timed in one state of the core; None where too little was."""

        def taken(series: Series) -> Series:
            return series.in_state(shared_below, shared=shared)

        found = dataclasses.replace(
            self,
            ticks=taken(self.ticks),
            whole=taken(self.whole),
            reading=taken(self.reading),
            company=taken(self.company),
            arithmetic={kind: taken(series) for kind, series in self.arithmetic.items()},
        )
        enough = all(len(series.values) >= FEWEST for series in found._all())
        return found if enough else None
