"""The classifier for AVX2 and AVX-512: bound by reading its weights once, in order.

Several output vectors share each broadcast input and cover the FMA's latency; the images of a batch
run inside a panel, so that its weights come from memory once.
"""

from __future__ import annotations

from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.primitives import (
    accumulate_in_registers,
    divisors,
    extent,
    powers_of_two_dividing,
)

MAX_VECTORS = 12
MAX_REDUCTION_UNROLL = 16


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    panels = tile_panels(sch, block, MAX_REDUCTION_UNROLL)

    # Step 3. The panel's sums in registers
    (c,) = panels.inside
    accumulate_in_registers(sch, block, [panels.outer], panels.unrolled, c)
    return [sch]


class Panels(NamedTuple):
    """Loops of a classifier that is tiled: those of a panel's sums, and the one over images."""

    image: LoopRV
    outer: LoopRV  # over the features
    unrolled: list[LoopRV]
    inside: list[LoopRV]  # over the lanes, and what a lane sums in one step
    lanes: int


def tile_panels(sch: Schedule, block: SBlockRV, most_unrolled: int) -> Panels:
    """The first two steps, of any classifier; at most so many steps over features are unrolled."""
    (epilogue,) = sch.get_consumers(block)
    n, o, c, k, *in_a_lane = sch.get_loops(block)
    blocks, lanes, steps = extent(sch, o), extent(sch, c), extent(sch, k)
    vectors = max(d for d in divisors(blocks) if d <= MAX_VECTORS)

    # Step 1. Panels of output vectors, the batch inside
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_VECTORS, [blocks // vectors, vectors]))
    unrolls = powers_of_two_dividing(steps, most_unrolled)
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
    return Panels(n, k0, [ki, oi], [c, *in_a_lane], lanes)
