"""The windows of Winograd's algorithm, transformed, for AVX2 and AVX-512: bound by memory."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import parallel_rows, unroll


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    """One window at a time: its 16 inputs are loaded once for 16 sums."""
    n, o, h, _, q, c = sch.get_loops(block)
    unroll(sch, q)
    sch.vectorize(c)
    parallel_rows(sch, n, o, h)
    return [sch]
