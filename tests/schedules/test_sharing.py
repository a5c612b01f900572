"""Shares of a parallel loop: who gets how many, and how many there should be."""

from __future__ import annotations

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import te
from tvm.s_tir import Schedule
from tvm.target import Target

from schedules.cpu.sharing import most_even, num_cores, stretch
from schedules.primitives import parallel_rows
from tvm_mobilenet.scheduling.balance import imbalance, shared_rows


def on(cores: int) -> Target:
    return Target({"kind": "llvm", "num-cores": cores})


@given(st.integers(1, 200), st.integers(1, 64))
def test_stretch_is_the_busiest_cores_share_over_an_even_one(shares: int, cores: int) -> None:
    runs = [len(range(core, shares, cores)) for core in range(cores)]
    assert stretch(shares, cores) == pytest.approx(max(runs) / (shares / cores))


def test_cores_of_a_target() -> None:
    assert num_cores(on(6)) == 6
    assert num_cores(Target({"kind": "llvm"})) == num_cores() == 1
    with on(3):
        assert num_cores() == 3


def test_the_number_of_shares_is_even_or_nearly() -> None:
    with on(2):
        assert most_even([1, 2, 7, 14]) == 2
        assert most_even([3, 5]) == 5
        assert most_even([11, 12]) == 11, "a tenth is nothing"
    assert most_even([1, 2]) == 1


def test_rows_that_threads_share_are_told_by_the_loop() -> None:
    assert shared_rows(scheduled(parallel=True)) == 0
    sch = Schedule(scheduled(parallel=False))
    parallel_rows(sch, *sch.get_loops(sch.get_sblock("b")))
    assert shared_rows(sch.mod) == 4


def scheduled(parallel: bool) -> tvm.IRModule:
    """Six rows of four, each row a share or all of them one core's; and a sum over them."""
    a = te.placeholder((6, 4), "float32", "a")
    b = te.compute((6, 4), lambda i, j: a[i, j] * 2, "b")
    c = te.compute((6,), lambda i: b[i, 0], "c")
    sch = Schedule(tvm.IRModule({"main": te.create_prim_func([a, b, c])}))
    if parallel:
        sch.parallel(sch.get_loops(sch.get_sblock("b"))[0])
    return sch.mod


def test_imbalance_counts_the_stores_of_the_busiest_core() -> None:
    alone = scheduled(parallel=False)
    assert imbalance(alone, 1) == 1
    assert imbalance(alone, 4) == 4
    # 24 stores shared out in rows, two of six for the busiest of four, and 6 for one core
    assert imbalance(scheduled(parallel=True), 4) == pytest.approx((8 + 6) * 4 / 30)
