"""The model of x86's tiles: by the target's facts, and by Zen's where it says none."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from schedules.x86.registers import Core, RegisterFile, best_gemm_tile, current_core, gemm_cycles
from tvm_mobilenet.hardware import target

HEIGHTS, WIDTHS, BLOCKS = [1, 2], [1, 2, 4], [1, 5]


def chosen(**facts: int) -> tuple[int, int, int]:
    """The tile on a CPU with AVX-512 of these facts."""
    spec = replace(target.resolve("x86-icelake"), facts=facts)
    with spec.tvm_target():
        return best_gemm_tile(RegisterFile(16), HEIGHTS, WIDTHS, BLOCKS)


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("x86-znver4", Core()),
        ("x86-znver5", Core()),  # whose file says the same
        ("x86-icelake", Core()),
        ("x86-sapphirerapids", Core(weights_bandwidth=43)),
    ],
)
def test_cores(name: str, core: Core) -> None:
    with target.resolve(name).tvm_target():
        assert current_core() == core


def test_each_fact_of_the_target_counts() -> None:
    """Nothing but what the target says makes a tile dear."""
    tiles = [(28, 1), (14, 2), (4, 5), (1, 1)]
    usual = [gemm_cycles(Core(), *tile, 16) for tile in tiles]
    for one in fields(Core):
        other = replace(Core(), **{one.name: 1 if one.name != "fma_latency" else 40})
        assert [gemm_cycles(other, *tile, 16) for tile in tiles] != usual, one.name


def test_facts_decide() -> None:
    assert chosen() == chosen(weights_bandwidth=10) == (2, 4, 1), "one vector of weights a step"
    assert chosen(weights_bandwidth=43) == (1, 4, 5), "which may come fast"
    assert chosen(loads=1) == (1, 4, 5), "or loads are dear: nine for 20 FMAs, not for eight"
