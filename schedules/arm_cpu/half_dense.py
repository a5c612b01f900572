"""The classifier in float16 for NEON: as dense.py, whose input it rounds, with sums in parts."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.arm_cpu.by_element import accumulate_by_element
from schedules.arm_cpu.dense import MAX_VECTORS
from schedules.arm_cpu.parts import lanes_of, start_total
from schedules.primitives import divisors, extent, own_loops, powers_of_two_dividing, unroll

MAX_HALF_STEPS = 1  # of eight k between two branches: what one base reaches with ldp's offset


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    (rounded,), (total,) = sch.get_producers(block), sch.get_consumers(block)
    (epilogue,) = sch.get_consumers(total)
    n, o, c, part = sch.get_loops(total)
    blocks, lanes, channels_in = extent(sch, o), extent(sch, c), extent(sch, last_loop(sch, block))
    vectors = max(d for d in divisors(blocks) if d <= MAX_VECTORS)

    # Step 1. Panels of output vectors, the batch inside, the parts of their sums one by one
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_VECTORS, [blocks // vectors, vectors]))
    step = powers_of_two_dividing(channels_in, lanes_of(sch, block))[-1]
    unrolls = powers_of_two_dividing(channels_in // step, MAX_HALF_STEPS)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    sch.reorder(o0, n, part, oi, c)
    unroll(sch, oi)
    sch.vectorize(c)
    sch.parallel(o0)

    # Step 2. The panel's bias and activation, in vectors that divide the outputs
    width = powers_of_two_dividing(extent(sch, last_loop(sch, epilogue)), lanes)[-1]
    sch.reverse_compute_at(epilogue, n)
    _, inner = sch.split(last_loop(sch, epilogue), [None, width])
    sch.vectorize(inner)

    # Step 3. A part's sums in registers, of the image's features, rounded
    sch.compute_at(block, part, preserve_unit_loops=True)
    sch.compute_at(rounded, n)
    _, inner = sch.split(last_loop(sch, rounded), [None, step])
    sch.vectorize(inner)
    image, features, lane, whole, k = own_loops(sch, block)
    k0, k1, ki = sch.split(k, [None, factor, step])
    accumulate_by_element(sch, block, [whole, k0, k1], [ki, image, features], lane)
    unroll(sch, k1)
    start_total(sch, total)
    return [sch]


def last_loop(sch: Schedule, block: SBlockRV) -> LoopRV:
    return sch.get_loops(block)[-1]
