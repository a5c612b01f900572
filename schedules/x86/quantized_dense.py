"""The classifier over bytes, for AVX2, AVX-512 and VNNI: as dense.py, four features a step.

Over bfloat16 it is two, which the panel rounds first.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import (
    divisors,
    extent,
    powers_of_two_dividing,
    sum_dot_products,
)
from schedules.x86.dot_products import BYTE_PRODUCTS, DotProducts

MAX_VECTORS = 12
MAX_REDUCTION_UNROLL = 8


def schedule(
    sch: Schedule, block: SBlockRV, *, dots: DotProducts = BYTE_PRODUCTS
) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(block)
    n, o, c, k, i = sch.get_loops(block)
    blocks, lanes, steps = extent(sch, o), extent(sch, c), extent(sch, k)
    vectors = max(d for d in divisors(blocks) if d <= MAX_VECTORS)

    # Step 1. Panels of output vectors, the rows inside
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_VECTORS, [blocks // vectors, vectors]))
    unrolls = powers_of_two_dividing(steps, MAX_REDUCTION_UNROLL)
    default = unrolls.index(min(4, unrolls[-1]))
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), default)
    k0, ki = sch.split(k, [None, factor])
    sch.reorder(o0, n, oi, c, k0, ki)
    sch.parallel(o0)

    # Step 2. The panel's scale, bias and activation, in vectors that divide the outputs
    width = powers_of_two_dividing(extent(sch, sch.get_loops(epilogue)[-1]), lanes)[-1]
    sch.reverse_compute_at(epilogue, n)
    _, inner = sch.split(sch.get_loops(epilogue)[-1], [None, width])
    sch.vectorize(inner)

    # Step 3. What is rounded, then the panel's sums in registers
    for rounded in sch.get_producers(block):
        sch.compute_at(rounded, n)
        *_, feature = sch.get_loops(rounded)
        _, inner = sch.split(
            feature, [None, powers_of_two_dividing(extent(sch, feature), lanes)[-1]]
        )
        sch.vectorize(inner)
    sum_dot_products(sch, block, [k0], [ki, oi], (c, i), dots.channels(lanes))
    return [sch]
