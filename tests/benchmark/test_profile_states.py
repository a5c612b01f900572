"""bench --profile on a core that a neighbour comes to and goes from, made up without a clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from support import result_rows

from tvm_mobilenet.benchmark.profile.layers import Profile, profile, to_json
from tvm_mobilenet.bundle import Layer
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS
from tvm_mobilenet.reporting.profile import print_profile
from tvm_mobilenet.results import profiles

LAYER = Layer("0", "pointwise_conv2d_7x7x8_8", tuned=False, flops=PEAK_OPERATIONS // 2, nbytes=1000)
ALONE_NOPS, SHARED_NOPS = 5.3, 2.6


@dataclass
class Core:
    """Shared or not by the script, of which every reading takes one."""

    script: list[bool]
    read: int = 0

    @property
    def shared(self) -> bool:
        return self.script[self.read % len(self.script)]

    def nops_per_cycle(self) -> float:
        self.read += 1
        return SHARED_NOPS if self.shared else ALONE_NOPS

    def company_share(self) -> float:
        return 0.6 if self.shared else 1.0


@dataclass
class Network:
    """An inference takes 1 ms alone and 2 ms shared, FMAs in registers 1 ms in any case."""

    core: Core | None
    threads: int = 1
    manifest: Any = field(default_factory=lambda: SimpleNamespace(layers=[LAYER]))

    @property
    def seconds(self) -> float:
        return 2e-3 if self.core is not None and self.core.shared else 1e-3

    def warm_up(self) -> None:
        pass

    def time_layers(self) -> tuple[float, NDArray[np.int64]]:
        return self.seconds, np.array([100, 100 + int(self.seconds * 1e9)])

    def time_network(self, runs: int) -> list[float]:
        return [self.seconds] * runs

    def time_arithmetic(self, arithmetic: Arithmetic, runs: int) -> list[float]:
        return [1e-3] * runs

    def time_reading(self, runs: int) -> tuple[list[float], int]:
        return [1e-3] * runs, 1000


def profiled(shared_share: float) -> Profile:
    """In stretches of 40 readings."""
    shared = round(40 * shared_share)
    return profile(Network(Core([True] * shared + [False] * (40 - shared))), runs=200)


@pytest.mark.parametrize(
    ("share", "state", "network_ms", "floor_ms"),
    [(0.3, "alone", 1.0, 0.5), (0.7, "shared", 2.0, 0.5 / 0.6)],
)
def test_figures_are_of_one_state_and_of_what_the_core_could_do_in_it(
    share: float, state: str, network_ms: float, floor_ms: float
) -> None:
    result = profiled(share)
    assert result.state == state
    assert result.network_s * 1e3 == pytest.approx(network_ms)
    assert result.layers[0].seconds * 1e3 == pytest.approx(network_ms)
    assert result.floor_s * 1e3 == pytest.approx(floor_ms)
    alone, shared = result.states
    assert (alone.state, shared.state) == ("alone", "shared")
    assert alone.network_s * 1e3 == pytest.approx(1) and shared.network_s * 1e3 == pytest.approx(2)
    assert shared.peaks.operations_per_s["fma"] == pytest.approx(0.6 * PEAK_OPERATIONS / 1e-3)
    assert 0.8 < alone.share + shared.share < 1, "those in which the state changed are of neither"
    assert abs(shared.share - share) < 0.1


@pytest.mark.parametrize("core", [None, Core([False]), Core([True]), Core([True, False])])
def test_one_state_is_held_against_the_peak_in_registers(core: Core | None) -> None:
    """Where there is no probe, one heap of readings, or a change within everything timed."""
    result = profile(Network(core), runs=60)
    assert (result.state, result.states) == (None, ())
    assert result.floor_s * 1e3 == pytest.approx(0.5)


def test_it_is_printed_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    result = profiled(0.3)
    print_profile(Console(), "b", result)
    printed = capsys.readouterr().out
    for one in result.states:
        assert f"core {one.state} during {one.share:.0%} of the inferences: infer" in printed
    assert "infer 2.000 ms, 2.40 times its floor there, 0.833 ms (23 GFLOP/s with" in printed
    assert "the table is of inferences with the core alone" in printed
    text = to_json([("b", result)], result_rows.MACHINE, "bench --profile b", "2026-01-02")
    (written,) = profiles.read(json.loads(text)).profiles
    assert written.state == "alone"
    assert [each.network_ms for each in written.states] == pytest.approx([1.0, 2.0])
    assert written.states[1].floor_ms == pytest.approx(0.5 / 0.6)
    plain = to_json([("b", profile(Network(None), 5))], result_rows.MACHINE, "x", "2026-01-02")
    assert not {"state", "states"} & json.loads(plain)["profiles"][0].keys()
