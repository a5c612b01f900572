"""Fully connected layer for few images: a warp an output, its lanes 16 bytes of weights apart.

Reading the weights once is all the work there is; the lanes' sums meet by shuffles.
"""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda.rows import inner_loops, lanes_of
from schedules.primitives import divisors, extent, unroll

LANES = 32
MAX_WARPS = 8


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(block)
    n, o, k = sch.get_loops(block)
    outputs, inner = extent(sch, o), extent(sch, k)

    # Step 1. Warps of outputs, lanes of the inner dimension
    warps = max(d for d in divisors(outputs) if d <= MAX_WARPS)
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_WARPS, [outputs // warps, warps]))
    weight = sch.cache_read(block, 1, "local")
    vector = lanes_of(sch, weight)
    lanes = math.gcd(inner // vector, LANES)
    k0, lane, ki = sch.split(k, [None, lanes, vector])
    sch.reorder(n, o0, oi, k0, lane, ki)
    sch.bind(sch.fuse(n, o0), "blockIdx.x")
    sch.bind(oi, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")

    # Step 2. A lane's weights in one load
    sch.compute_at(weight, lane, preserve_unit_loops=True)
    *loops, last = inner_loops(sch, weight, lane)
    unroll(sch, *loops)
    sch.vectorize(last)
    unroll(sch, ki)

    # Step 3. The sum of the lanes, then bias and activation
    sch.set_scope(block, 0, "local")
    sch.reverse_compute_at(epilogue, oi, preserve_unit_loops=True)
    return [sch]
