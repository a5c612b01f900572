"""Fully connected layer for few images: a warp an output, its lanes 16 bytes of weights apart.

Reading the weights once is all the work there is; the lanes' sums meet by shuffles.
"""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.cuda.rows import inner_loops, lanes_of
from schedules.primitives import divisors, extent, unroll

LANES = 32
MAX_WARPS = 8


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    outputs = extent(sch, sch.get_loops(block)[1])
    warps = max(d for d in divisors(outputs) if d <= MAX_WARPS)
    give_outputs_to_warps(sch, block, warps, MAX_WARPS)
    return [sch]


def give_outputs_to_warps(
    sch: Schedule, block: SBlockRV, warps: int, most: int
) -> tuple[LoopRV, LoopRV, LoopRV]:
    """Schedule the product and its "epilogue"; ``warps`` is the default of up to ``most`` a block.

    Returns the loops of blocks, warps and lanes.
    """
    (epilogue,) = sch.get_consumers(block)
    n, o, k = sch.get_loops(block)
    outputs, inner = extent(sch, o), extent(sch, k)

    # Step 1. Warps of outputs, lanes of the inner dimension
    o0, warp = sch.split(o, sch.sample_perfect_tile(o, 2, most, [outputs // warps, warps]))
    weight = sch.cache_read(block, 1, "local")
    vector = lanes_of(sch, weight)
    lanes = math.gcd(inner // vector, LANES)
    k0, lane, ki = sch.split(k, [None, lanes, vector])
    sch.reorder(n, o0, warp, k0, lane, ki)
    grid = sch.fuse(n, o0)
    sch.bind(grid, "blockIdx.x")
    sch.bind(warp, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")

    # Step 2. A lane's weights in one load
    sch.compute_at(weight, lane, preserve_unit_loops=True)
    *loops, last = inner_loops(sch, weight, lane)
    unroll(sch, *loops)
    sch.vectorize(last)
    unroll(sch, ki)

    # Step 3. The sum of the lanes, then bias and activation
    sch.set_scope(block, 0, "local")
    sch.reverse_compute_at(epilogue, warp, preserve_unit_loops=True)
    return grid, warp, lane
