"""The classifier over bytes, for AVX2, AVX-512 and VNNI: as dense.py, four features a step.

Over bfloat16 it is two, which the panel rounds first.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
from schedules.primitives import (
    extent,
    powers_of_two_dividing,
    sum_dot_products,
)
from schedules.x86.dense import tile_panels

MAX_REDUCTION_UNROLL = 8


def schedule(
    sch: Schedule, block: SBlockRV, *, dots: DotProducts = BYTE_PRODUCTS
) -> list[Schedule]:
    panels = tile_panels(sch, block, MAX_REDUCTION_UNROLL)

    # Step 3. What is rounded, then the panel's sums in registers
    for rounded in sch.get_producers(block):
        sch.compute_at(rounded, panels.image)
        *_, feature = sch.get_loops(rounded)
        width = powers_of_two_dividing(extent(sch, feature), panels.lanes)[-1]
        _, inner = sch.split(feature, [None, width])
        sch.vectorize(inner)
    c, i = panels.inside
    channels = dots.channels(panels.lanes)
    sum_dot_products(sch, block, [panels.outer], panels.unrolled, (c, i), channels)
    return [sch]
