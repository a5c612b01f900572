"""The classifier over bytes, for NEON: as dense.py, up to 16 features a step.

Over bfloat16 it is up to eight, which the panel rounds first.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.byte_tiles import sum_by_element
from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
from schedules.primitives import divisors, extent, powers_of_two_dividing, unroll

DWORDS = 4  # of a register of features
MAX_VECTORS = 4  # of sums, of 16 outputs each
MAX_STEPS = 2  # of a register of features between two branches


def schedule(
    sch: Schedule,
    block: SBlockRV,
    *,
    dots: DotProducts = BYTE_PRODUCTS,
    most: int = MAX_VECTORS,
) -> list[Schedule]:
    """``most``: vectors of sums."""
    (epilogue,) = sch.get_consumers(block)
    n, o, c, k, i = sch.get_loops(block)
    blocks, lanes, steps = extent(sch, o), extent(sch, c), extent(sch, k)
    vectors = max(d for d in divisors(blocks) if d <= most)

    # Step 1. Panels of output vectors, the rows inside
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, most, [blocks // vectors, vectors]))
    register = powers_of_two_dividing(steps, DWORDS)[-1]
    unrolls = powers_of_two_dividing(steps // register, MAX_STEPS)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1, ki = sch.split(k, [None, factor, register])
    sch.reorder(o0, n, oi, c, k0, k1, ki)
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
        width = powers_of_two_dividing(extent(sch, feature), lanes)[-1]
        _, inner = sch.split(feature, [None, width])
        sch.vectorize(inner)
    sum_by_element(sch, block, [k0, k1], [ki, oi], (c, i), dots=dots)
    unroll(sch, k1)
    return [sch]
