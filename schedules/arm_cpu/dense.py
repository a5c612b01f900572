"""The classifier for NEON: bound by reading its weights once, in order.

Several output vectors share each input and cover the FMA's latency; the images of a batch run
inside a panel, so that its weights come from memory once.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.by_element import accumulate_by_element
from schedules.arm_cpu.cores import LANES
from schedules.primitives import divisors, extent, powers_of_two_dividing, unroll

MAX_VECTORS = 8  # what legalization packs side by side: one stream of weights
MAX_STEPS = 2  # of four k between two branches: what one base reaches with ldp's offset


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(block)
    n, o, c, k = sch.get_loops(block)
    blocks, lanes, channels_in = extent(sch, o), extent(sch, c), extent(sch, k)
    vectors = max(d for d in divisors(blocks) if d <= MAX_VECTORS)

    # Step 1. Panels of output vectors, the batch inside
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_VECTORS, [blocks // vectors, vectors]))
    step = powers_of_two_dividing(channels_in, LANES)[-1]
    unrolls = powers_of_two_dividing(channels_in // step, MAX_STEPS)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1, ki = sch.split(k, [None, factor, step])
    sch.reorder(o0, n, oi, c, k0, k1, ki)
    sch.parallel(o0)

    # Step 2. The panel's bias and activation, in vectors that divide the outputs
    width = powers_of_two_dividing(extent(sch, sch.get_loops(epilogue)[-1]), lanes)[-1]
    sch.reverse_compute_at(epilogue, n)
    _, inner = sch.split(sch.get_loops(epilogue)[-1], [None, width])
    sch.vectorize(inner)

    # Step 3. The panel's sums in registers
    accumulate_by_element(sch, block, [k0, k1], [ki, oi], c)
    unroll(sch, k1)
    return [sch]
