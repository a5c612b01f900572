"""A depthwise convolution fused with the 1x1 convolution after it.

What the depthwise half computes goes into shared memory and nowhere else. Blocks that share pixels
compute it again: nine multiply-adds an element against one a column of the 1x1 convolution.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda import fma_product, mma_product
from schedules.cuda.mma_intrinsics import HALF, TF32
from schedules.cuda.rows import filter_rows


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return fma_product.schedule_product(sch, conv, filter_rows)


def schedule_mma(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return mma_product.schedule_product(sch, conv, filter_rows, HALF)


def schedule_tf32(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return mma_product.schedule_product(sch, conv, filter_rows, TF32)
