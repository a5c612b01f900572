"""Global average pooling for CPUs: one vector of channels a step, bound by memory."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import (
    accumulate_in_registers,
    divisors,
    extent,
    powers_of_two_dividing,
)

MAX_VECTORS = 8  # independent sums, to cover the latency of the addition


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(block)
    n, o, c, h, w = sch.get_loops(block)
    blocks, lanes = extent(sch, o), extent(sch, c)
    vectors = max(d for d in divisors(blocks) if d <= MAX_VECTORS)

    # Step 1. Panels of channel vectors
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_VECTORS, [blocks // vectors, vectors]))
    panel = sch.fuse(n, o0)
    sch.parallel(panel)

    # Step 2. Divide, in vectors that divide the channels
    width = powers_of_two_dividing(extent(sch, sch.get_loops(epilogue)[-1]), lanes)[-1]
    sch.reverse_compute_at(epilogue, panel)
    _, inner = sch.split(sch.get_loops(epilogue)[-1], [None, width])
    sch.vectorize(inner)

    # Step 3. The panel's sums in registers
    accumulate_in_registers(sch, block, [h, w], [oi], c)
    return [sch]
