"""The step that all by-element kernels share: inputs come as vectors, FMAs name their lanes."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.primitives import own_loops, unroll


def accumulate_by_element(
    sch: Schedule, conv: SBlockRV, reduction: list[LoopRV], tile: list[LoopRV], lanes: LoopRV
) -> None:
    """As primitives.accumulate_in_registers, with each step's inputs loaded as whole vectors.

    The last reduction loop is the step. The copy into a small buffer that only constants index is
    what lets LLVM keep the vectors in registers and name their lanes in the FMAs.
    """
    sch.reorder(*reduction, *tile, lanes)
    sch.vectorize(lanes)
    unroll(sch, *tile)
    inputs = sch.cache_read(conv, 0, "global")
    sch.compute_at(inputs, reduction[-1], preserve_unit_loops=True)
    *copied, vector = own_loops(sch, inputs)
    unroll(sch, *copied)
    sch.vectorize(vector)
    sch.decompose_reduction(conv, reduction[0])
